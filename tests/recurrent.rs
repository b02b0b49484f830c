//! Recurrent layers with all their options against what PyTorch, Keras, ONNX Runtime, the ONNX package and plain equations
//! computed (`tests/fixtures/recurrent_*`): outputs and states, and gradients where the reference has them.

mod common;

use common::recurrent_files::layer;
use common::{Fixture, close, fixture, fixture_names};
use ndarray::Array3;
use wgpu_lstm::{Device, LstmState};

/// Values: f32 throughout, sums of up to some dozens of terms; the references are good to 1e-7.
const VALUES: f32 = 1e-5;
/// Gradients: sums over steps and rows, too.
const GRADIENTS: f32 = 1e-4;

/// A state of the file, by the names of its parts.
fn state(file: &Fixture, [h, c]: [&str; 2]) -> LstmState {
    let h = file.array3(h);
    let none = Array3::zeros((h.dim().0, h.dim().1, 0));
    let has_c = file.metadata["cell"].ends_with("lstm");
    LstmState { c: if has_c { file.array3(c) } else { none }, h }
}

fn check(device: &Device, name: &str) {
    let file = fixture(name);
    let x = file.array3("x");
    let lstm = layer(&file).build(device, x.dim().2, 0).unwrap();
    lstm.set_parameters(file.under("param.")).unwrap();
    let initial = state(&file, ["h_0", "c_0"]);
    let lengths = file.tensors.get("lengths");
    let lengths: Option<Vec<usize>> = lengths.map(|all| all.iter().map(|&length| length as usize).collect());
    let out = match &lengths {
        Some(lengths) => lstm.forward_ragged(x.view(), lengths, Some(&initial)),
        None => lstm.forward(x.view(), Some(&initial)),
    };
    let out = out.unwrap();
    let mut finals = state(&file, ["h_n", "c_n"]);
    if file.metadata.get("zero_length_state").is_some_and(|state| state == "zeros") {
        // ONNX Runtime gives zeros where a row has no step; here it keeps its initial state.
        for (row, _) in lengths.iter().flatten().enumerate().filter(|&(_, &length)| length == 0) {
            for (to, from) in [(&mut finals.h, &initial.h), (&mut finals.c, &initial.c)] {
                to.index_axis_mut(ndarray::Axis(1), row).assign(&from.index_axis(ndarray::Axis(1), row));
            }
        }
    }
    close(&format!("{name} output"), &out.output, &file.tensors["output"], VALUES, VALUES);
    close(&format!("{name} h_n"), &out.state.h, &finals.h, VALUES, VALUES);
    close(&format!("{name} c_n"), &out.state.c, &finals.c, VALUES, VALUES);

    // Zoneout drops at random in training; its gradients are held against central differences elsewhere.
    if !file.tensors.contains_key("d_output") || file.metadata.contains_key("zoneout_h") {
        return;
    }
    let (dy, d_final) = (file.array3("d_output"), state(&file, ["d_h_n", "d_c_n"]));
    let gradients = match &lengths {
        Some(lengths) => lstm.gradients_ragged(x.view(), lengths, Some(&initial), dy.view(), Some(&d_final)),
        None => lstm.gradients(x.view(), Some(&initial), dy.view(), Some(&d_final)),
    };
    let gradients = gradients.unwrap();
    let expected = state(&file, ["grad.h_0", "grad.c_0"]);
    close(&format!("{name} dx"), &gradients.x, &file.tensors["grad.x"], GRADIENTS, GRADIENTS);
    close(&format!("{name} dh_0"), &gradients.initial.h, &expected.h, GRADIENTS, GRADIENTS);
    close(&format!("{name} dc_0"), &gradients.initial.c, &expected.c, GRADIENTS, GRADIENTS);
    for (parameter, expected) in file.under("grad.param.") {
        let given = &gradients.parameters[&parameter];
        close(&format!("{name} d{parameter}"), given, &expected, GRADIENTS, GRADIENTS);
    }
}

fn references(device: &Device) {
    fixture_names("recurrent_").iter().for_each(|name| check(device, name));
}

on_both_by_every_strategy!(references);

#[test]
fn there_are_references() {
    assert!(fixture_names("recurrent_").len() >= 82);
}
