//! [ONNX](https://onnx.ai) graphs of recurrent layers and what surrounds them.
