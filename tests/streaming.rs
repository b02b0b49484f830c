//! Streaming: pieces give what the whole gives, bit for bit on one device, and states can be read, set and reset.

mod common;

use common::{Draw, close};
use ndarray::{Array3, Axis, concatenate, s};
use wgpu_lstm::{Activation, Dense, Device, Lstm, Model, Sequential};

fn model(device: &Device) -> Model {
    Sequential::new(3)
        .add(Lstm::new(6).layers(2).return_sequences(true))
        .add(Lstm::new(4).return_sequences(true))
        .add(Dense::new(2).activation(Activation::Tanh))
        .build(device, 11)
        .unwrap()
}

fn pieces_give_what_the_whole_gives(device: &Device) {
    let model = model(device);
    let x = Draw::new(1).array3((4, 13, 3));
    let whole = model.predict(x.view()).unwrap();
    for pieces in [vec![1; 13], vec![5, 8], vec![1, 3, 3, 6], vec![13]] {
        let mut stream = model.stream(4).unwrap();
        let mut parts: Vec<Array3<f32>> = Vec::new();
        let mut first = 0;
        for steps in &pieces {
            parts.push(stream.feed(x.slice(s![.., first..first + steps, ..])).unwrap());
            first += steps;
        }
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let joined = concatenate(Axis(1), &views).unwrap();
        // Products over other numbers of rows may sum in another order
        close(&format!("{device} {pieces:?}"), &joined, &whole, 1e-6, 1e-6);
    }
}

fn states_of_one_stream(device: &Device) {
    let model = model(device);
    let x = Draw::new(2).array3((3, 6, 3));
    let mut stream = model.stream(3).unwrap();
    let zero = stream.state(1).unwrap();
    assert_eq!(zero.h.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 4]);
    assert!(zero.h.iter().chain(&zero.c).flatten().all(|&value| value == 0.0));

    let start = stream.feed(x.slice(s![.., ..3, ..])).unwrap();
    let middle = [0, 1, 2].map(|row| stream.state(row).unwrap());
    let end = stream.feed(x.slice(s![.., 3.., ..])).unwrap();

    // Back to the middle for one stream, to zero for another; the third goes on.
    stream.set_state(0, &middle[0]).unwrap();
    stream.reset(1).unwrap();
    let third = stream.state(2).unwrap();
    let mut again = x.slice(s![.., 3.., ..]).to_owned();
    again.slice_mut(s![1, .., ..]).assign(&x.slice(s![1, ..3, ..]));
    let replay = stream.feed(again.view()).unwrap();
    assert_eq!(replay.slice(s![0, .., ..]), end.slice(s![0, .., ..]));
    assert_eq!(replay.slice(s![1, .., ..]), start.slice(s![1, .., ..]));
    assert_ne!(replay.slice(s![2, .., ..]), end.slice(s![2, .., ..]));
    assert_ne!(stream.state(2).unwrap(), third);

    stream.reset_all();
    assert_eq!(stream.feed(x.slice(s![.., ..3, ..])).unwrap(), start);
}

fn a_last_step_model_streams(device: &Device) {
    let model = Sequential::new(2).add(Lstm::new(5)).add(Dense::new(1)).build(device, 3).unwrap();
    let x = Draw::new(4).array3((2, 7, 2));
    let whole = model.predict(x.view()).unwrap(); // [B, 1]
    let mut stream = model.stream(2).unwrap();
    stream.feed(x.slice(s![.., ..4, ..])).unwrap();
    let last = stream.feed(x.slice(s![.., 4.., ..])).unwrap(); // [B, 1, 1]
    assert_eq!(last.dim(), (2, 1, 1));
    close("last step", &last, &whole, 1e-6, 1e-6);
}

on_both!(pieces_give_what_the_whole_gives, states_of_one_stream, a_last_step_model_streams);

#[test]
fn what_cannot_stream_is_refused() {
    let device = Device::cpu();
    let both = Sequential::new(2).add(Lstm::new(4).bidirectional(true)).build(&device, 0).unwrap();
    let error = both.stream(1).unwrap_err().to_string();
    assert!(error.contains("lstm is bidirectional") && error.contains("predict"), "{error}");
    let model = model(&device);
    assert!(model.stream(0).is_err());
    let mut stream = model.stream(2).unwrap();
    for shape in [(3, 1, 3), (2, 1, 4), (2, 0, 3)] {
        assert!(stream.feed(Array3::zeros(shape).view()).is_err(), "{shape:?}");
    }
    assert!(stream.feed(Array3::from_elem((2, 1, 3), f32::NAN).view()).is_err());
    assert!(stream.state(2).unwrap_err().to_string().contains("stream 2 does not exist"));
    let mut state = stream.state(0).unwrap();
    state.h[1].pop();
    assert!(stream.set_state(0, &state).unwrap_err().to_string().contains("[6, 5, 4]"));
    let mut state = stream.state(0).unwrap();
    state.c[0][2] = f32::INFINITY;
    assert!(stream.set_state(0, &state).unwrap_err().to_string().contains("[unit] = [2]"));
}
