//! Writing: the oldest form, which every HDF5 library reads, and h5py writes by itself.

use super::{SIGNATURE, UNDEFINED, message};
use std::collections::BTreeMap;

/// Half of the room that nodes of a group's tree have.
const TREE_HALF: u16 = 16;

/// A file in the making.
#[derive(Default)]
pub(in super::super) struct Writer {
    root: Group,
}

#[derive(Default)]
struct Group {
    /// An attribute `name`.
    name: Option<String>,
    members: BTreeMap<String, Member>,
}

enum Member {
    Group(Group),
    Dataset { shape: Vec<usize>, values: Vec<f32> },
}

impl Writer {
    /// Adds a group, and those above it.
    pub fn group(&mut self, path: &str, name: Option<&str>) {
        if let Some(group) = self.at(path) {
            group.name = name.map(str::to_string);
        }
    }

    /// Adds an array in a group, which is added, too.
    pub fn dataset(&mut self, group: &str, name: &str, shape: &[usize], values: Vec<f32>) {
        debug_assert_eq!(shape.iter().product::<usize>(), values.len());
        if let Some(group) = self.at(group) {
            group.members.insert(name.to_string(), Member::Dataset { shape: shape.to_vec(), values });
        }
    }

    /// The group of a path; `None` if there is an array on the way, which Keras's names exclude.
    fn at(&mut self, path: &str) -> Option<&mut Group> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(&mut self.root, |group, part| {
            match group.members.entry(part.to_string()).or_insert_with(|| Member::Group(Group::default())) {
                Member::Group(group) => Some(group),
                Member::Dataset { .. } => None,
            }
        })
    }

    /// The file.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Out { bytes: vec![0; 96], leaf_half: widest(&self.root).div_ceil(2).max(4) as u16 };
        let root = out.group(&self.root);
        let mut head = Vec::from(SIGNATURE);
        head.extend([0, 0, 0, 0, 0, 8, 8, 0]); // versions, sizes of addresses and lengths
        head.extend(out.leaf_half.to_le_bytes());
        head.extend(TREE_HALF.to_le_bytes());
        head.extend([0; 4]);
        for address in [0, UNDEFINED, out.bytes.len() as u64, UNDEFINED, 0, root.header] {
            head.extend(address.to_le_bytes());
        }
        head.extend(1u64.to_le_bytes()); // the root's tree and heap follow
        head.extend(root.tree.to_le_bytes());
        head.extend(root.heap.to_le_bytes());
        out.bytes[..96].copy_from_slice(&head);
        out.bytes
    }
}

/// Members of the largest group.
fn widest(group: &Group) -> usize {
    let below = group.members.values().map(|member| match member {
        Member::Group(group) => widest(group),
        Member::Dataset { .. } => 0,
    });
    below.max().unwrap_or(0).max(group.members.len())
}

struct Out {
    bytes: Vec<u8>,
    /// Half of the members that a group's node has room for; all of a group's fit in one.
    leaf_half: u16,
}

struct Written {
    header: u64,
    tree: u64,
    heap: u64,
}

impl Out {
    /// Appends a block at a multiple of 8 and says where.
    fn block(&mut self, bytes: &[u8]) -> u64 {
        let place = self.bytes.len() as u64;
        self.bytes.extend(bytes);
        pad(&mut self.bytes);
        place
    }

    fn header(&mut self, messages: &[(u16, Vec<u8>)]) -> u64 {
        let mut body = Vec::new();
        for (kind, data) in messages {
            let mut data = data.clone();
            pad(&mut data);
            body.extend(kind.to_le_bytes());
            // Attributes are layers' names; all else is a few numbers.
            body.extend((data.len() as u16).to_le_bytes());
            body.extend([0; 4]);
            body.extend(data);
        }
        let mut header = vec![1, 0];
        header.extend((messages.len() as u16).to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.extend((body.len() as u32).to_le_bytes());
        header.extend([0; 4]);
        header.extend(body);
        self.block(&header)
    }

    fn group(&mut self, group: &Group) -> Written {
        let mut names = vec![0u8; 8];
        let mut node = Vec::from(*b"SNOD\x01\0");
        node.extend((group.members.len() as u16).to_le_bytes());
        let mut last = 0u64;
        for (name, member) in &group.members {
            last = names.len() as u64;
            names.extend(name.as_bytes());
            names.push(0);
            pad(&mut names);
            let header = match member {
                Member::Group(group) => self.group(group).header,
                Member::Dataset { shape, values } => self.dataset(shape, values),
            };
            node.extend(last.to_le_bytes());
            node.extend(header.to_le_bytes());
            node.extend([0; 24]);
        }
        node.resize(8 + 80 * usize::from(self.leaf_half), 0);
        let mut tree = Vec::from(*b"TREE\0\0");
        tree.extend(u16::from(!group.members.is_empty()).to_le_bytes());
        tree.extend(UNDEFINED.to_le_bytes());
        tree.extend(UNDEFINED.to_le_bytes());
        if !group.members.is_empty() {
            tree.extend(0u64.to_le_bytes());
            let node = self.block(&node);
            tree.extend(node.to_le_bytes());
            tree.extend(last.to_le_bytes());
        }
        let room = 2 * usize::from(TREE_HALF);
        tree.resize(24 + 8 * (2 * room + 1), 0);
        let tree = self.block(&tree);
        let place = self.block(&names);
        let mut heap = Vec::from(*b"HEAP\0\0\0\0");
        heap.extend((names.len() as u64).to_le_bytes());
        heap.extend(1u64.to_le_bytes()); // nothing is free
        heap.extend(place.to_le_bytes());
        let heap = self.block(&heap);
        let table = [tree, heap].iter().flat_map(|address| address.to_le_bytes()).collect();
        let mut messages = vec![(message::SYMBOL_TABLE, table)];
        messages.extend(group.name.as_ref().map(|name| (message::ATTRIBUTE, attribute("name", name))));
        Written { header: self.header(&messages), tree, heap }
    }

    fn dataset(&mut self, shape: &[usize], values: &[f32]) -> u64 {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let place = self.block(&data);
        let mut space = vec![1, shape.len() as u8, 0, 0, 0, 0, 0, 0];
        space.extend(shape.iter().flat_map(|&size| (size as u64).to_le_bytes()));
        // float of 4 bytes: sign at bit 31, exponent of 8 bits at 23 with bias 127, mantissa of 23 bits at 0
        let kind = [0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0].to_vec();
        let fill = vec![2, 2, 2, 0]; // none
        let mut layout = vec![3, 1];
        layout.extend(place.to_le_bytes());
        layout.extend((data.len() as u64).to_le_bytes());
        const FILL: u16 = 0x05;
        self.header(&[(message::DATASPACE, space), (message::DATATYPE, kind), (FILL, fill), (message::LAYOUT, layout)])
    }
}

/// An attribute of one text.
fn attribute(name: &str, text: &str) -> Vec<u8> {
    let mut text = text.as_bytes().to_vec();
    text.resize(text.len().max(1), 0); // a type of no bytes is none
    let mut name = name.as_bytes().to_vec();
    name.push(0);
    let mut bytes = vec![1, 0];
    for len in [name.len(), 8, 8] {
        bytes.extend((len as u16).to_le_bytes());
    }
    pad(&mut name);
    bytes.extend(name);
    bytes.extend([0x13, 0x11, 0, 0]); // text, UTF-8, padded with 0
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]); // one
    bytes.extend(text);
    bytes
}

/// Zeros up to a multiple of 8.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
