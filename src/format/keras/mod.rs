//! Files of [Keras 3](https://keras.io/api/models/model_saving_apis/): `.keras`, `.weights.h5` and the older `.h5`.
