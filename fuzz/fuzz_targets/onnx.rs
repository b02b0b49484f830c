//! Any bytes as an ONNX file: read, described, lifted from and run in 4 MiB.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndarray::ArrayD;
use wgpu_lstm::Device;
use wgpu_lstm::format::onnx::{Graph, Size, Value};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = Graph::from_bytes(bytes.to_vec(), "fuzz", &Device::cpu()) else { return };
    let mut graph = graph.memory_limit(1 << 22);
    let _ = graph.describe();
    for node in graph.recurrent().iter().take(4) {
        let _ = graph.lift(&node.name);
    }
    let zeros = |port: &wgpu_lstm::format::onnx::Port| -> Value {
        let size = |size: &Size| match size {
            Size::Fixed(size) => (*size).min(8),
            _ => 2,
        };
        // At most 8^6 elements
        let shape: Vec<usize> = port.shape.iter().flatten().take(6).map(size).collect();
        match &port.kind[..] {
            "i64" => ArrayD::<i64>::zeros(shape).into(),
            "i32" => ArrayD::<i32>::zeros(shape).into(),
            "f64" => ArrayD::<f64>::zeros(shape).into(),
            "bool" => ArrayD::from_elem(shape, false).into(),
            _ => ArrayD::<f32>::zeros(shape).into(),
        }
    };
    let inputs = graph.inputs().iter().map(|port| (port.name.clone(), zeros(port))).collect();
    let _ = graph.run(inputs);
});
