//! Memory that reading an ONNX file takes, counted by the allocator, for files that are made to take much of it.
#![cfg(feature = "onnx")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use wgpu_lstm::Device;
use wgpu_lstm::format::onnx::Graph;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A field of length and bytes; below 128 bytes, or of up to 2^21.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len();
    let len = match len {
        0..128 => vec![len as u8],
        _ => vec![len as u8 | 0x80, (len >> 7) as u8 | 0x80, (len >> 14) as u8],
    };
    [&[number << 3 | 2][..], &len, bytes].concat()
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn reading_takes_memory_in_proportion_to_the_file() {
    let device = Device::cpu();
    let many = |part: Vec<u8>| part.repeat(200_000 / part.len());
    let opset = field(8, &[0x10, 17]);
    let in_graph = |part: Vec<u8>| [field(7, &many(part)), opset.clone()].concat();
    let in_node = |part: Vec<u8>| [field(7, &field(1, &many(part))), opset.clone()].concat();
    let in_attribute = |part: Vec<u8>| [field(7, &field(1, &field(5, &many(part)))), opset.clone()].concat();
    let weights =
        field(5, &[field(8, b"w"), vec![0x08, 50, 0x08, 100, 0x08, 10, 0x10, 1], field(9, &vec![0; 200_000])].concat());
    let mut worst = 0.0f64;
    for (what, bytes, most) in [
        ("empty nodes", in_graph(field(1, &[])), 400.0),
        ("nodes with an output", in_graph(field(1, &field(2, &[]))), 400.0),
        ("nodes with an attribute", in_graph(field(1, &field(5, &[]))), 400.0),
        ("tensors", in_graph(field(5, &[])), 400.0),
        ("inputs", in_graph(field(11, &[])), 400.0),
        ("outputs", in_graph(field(12, &[])), 400.0),
        ("names", in_node(field(1, &[])), 400.0),
        ("attributes", in_node(field(5, &[])), 400.0),
        ("graphs in an attribute", in_attribute(field(11, &[])), 400.0),
        ("graphs in nodes", in_graph(field(1, &field(5, &field(6, &[])))), 400.0),
        (
            "graphs in a node of a long name",
            [
                field(7, &field(1, &[field(3, &[b'n'; 100_000]), many(field(5, &field(6, &[])))].concat())),
                opset.clone(),
            ]
            .concat(),
            400.0,
        ),
        ("strings", in_attribute(field(9, &[])), 400.0),
        ("whole numbers", in_attribute(vec![0x40, 0]), 400.0),
        ("operator sets", many(field(8, &[])), 400.0),
        // Ordinary files are mostly this: the bytes of the file, and the numbers.
        ("weights", [field(7, &weights), opset.clone()].concat(), 3.0),
    ] {
        let len = bytes.len();
        let before = HELD.load(Relaxed);
        MOST.store(before, Relaxed);
        let result = Graph::from_bytes(bytes, "made", &device);
        let taken = (MOST.load(Relaxed) - before + len) as f64 / len as f64;
        println!("{what}: {taken:.1} bytes a byte, {}", if result.is_ok() { "read" } else { "refused" });
        assert!(taken <= most, "{what}: {taken} bytes for each of {len} bytes");
        worst = worst.max(taken);
    }
    // The bound is not far from what is needed.
    assert!(worst > 100.0, "{worst}");
}
