//! Reading.

use super::{Error, Result, SIGNATURE, UNDEFINED, message};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Groups within groups; Keras needs about ten.
const DEEPEST: usize = 32;
/// Bytes of a name.
const LONGEST: usize = 1024;
/// Messages in an object's header; the older headers count them in 16 bits.
const MESSAGES: usize = 65_535;

/// A file's tree of names; data stays in the file's bytes until it is asked for.
pub(in super::super) struct File<'a> {
    bytes: &'a [u8],
    /// Bytes that may still be looked at as structure; overlapping objects would else multiply a small file.
    budget: Cell<u64>,
    /// Bytes of numbers that may still be read: there are no more than the file has.
    numbers: Cell<u64>,
    groups: BTreeMap<String, Group<'a>>,
    datasets: BTreeMap<String, Dataset<'a>>,
    heaps: RefCell<HashMap<u64, Heap<'a>>>,
}

/// The objects of a global heap, by number.
type Heap<'a> = HashMap<u16, &'a [u8]>;

#[derive(Default)]
struct Group<'a> {
    attributes: BTreeMap<String, Attribute<'a>>,
}

/// A named value beside an object.
struct Attribute<'a> {
    element: ElementType,
    count: u64,
    data: &'a [u8],
}

/// An array in a file.
pub struct Dataset<'a> {
    /// Its sizes.
    pub shape: Vec<usize>,
    element: ElementType,
    data: Result<&'a [u8]>,
}

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ElementType {
    /// 4 bytes, IEEE; whether the most significant comes first.
    Float32 {
        big_endian: bool,
    },
    Float {
        bits: u32,
    },
    Integer {
        bits: u32,
        signed: bool,
    },
    /// Fixed-length text of this many bytes, padded.
    Text(u32),
    /// Text in the global heap.
    LongText,
    Other {
        class: u8,
        size: u32,
    },
}

impl ElementType {
    /// Bytes of an element.
    fn size(self) -> u64 {
        match self {
            ElementType::Float32 { .. } => 4,
            ElementType::Float { bits } | ElementType::Integer { bits, .. } => u64::from(bits / 8),
            ElementType::Text(size) | ElementType::Other { size, .. } => size.into(),
            ElementType::LongText => 16,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ElementType::Float32 { .. } => write!(f, "float32"),
            ElementType::Float { bits } => write!(f, "float{bits}"),
            ElementType::Integer { bits, signed: true } => write!(f, "int{bits}"),
            ElementType::Integer { bits, signed: false } => write!(f, "uint{bits}"),
            ElementType::Text(_) | ElementType::LongText => write!(f, "text"),
            ElementType::Other { class, .. } => write!(f, "HDF5 type class {class}"),
        }
    }
}

impl Dataset<'_> {
    /// The elements' type, in NumPy's words.
    pub fn kind(&self) -> String {
        self.element.to_string()
    }
}

/// A cursor over bytes of the file, for little-endian numbers.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or("is cut off, or one of its HDF5 messages is")?;
        self.0 = rest;
        Ok(head)
    }

    /// A number of `len` ≤ 8 bytes.
    fn number(&mut self, len: usize) -> Result<u64> {
        Ok(self.take(len)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.number(1)? as u8)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(self.number(2)? as u16)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self.number(4)? as u32)
    }

    fn u64(&mut self) -> Result<u64> {
        self.number(8)
    }

    fn expect(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        let found = self.take(bytes.len())?;
        if found == bytes {
            return Ok(());
        }
        Err(format!("has {found:?} where its {what} should begin with {:?}", String::from_utf8_lossy(bytes)).into())
    }
}

/// A message of an object's header.
struct Message<'a> {
    kind: u16,
    data: Reader<'a>,
}

impl<'a> File<'a> {
    /// Reads the tree.
    pub fn open(bytes: &'a [u8]) -> Result<File<'a>> {
        let mut file = File {
            bytes,
            budget: Cell::new(4 * bytes.len() as u64 + 65_536),
            numbers: Cell::new(bytes.len() as u64),
            groups: BTreeMap::new(),
            datasets: BTreeMap::new(),
            heaps: RefCell::default(),
        };
        let root = file.superblock()?;
        let mut seen = HashSet::new();
        let mut open = vec![(String::new(), root, 0)];
        while let Some((path, address, depth)) = open.pop() {
            let shown = if path.is_empty() { "/" } else { &path };
            if !seen.insert(address) {
                return Err(format!("has more than one link to the object at {shown}; Keras writes none").into());
            }
            if depth > DEEPEST {
                return Err(format!("has groups more than {DEEPEST} deep, at {shown}").into());
            }
            let at = |error: Error| error.at(shown);
            let messages = file.messages(address).map_err(at)?;
            let attributes = file.attributes(&messages).map_err(at)?;
            if messages.iter().any(|message| message.kind == message::LAYOUT) {
                let dataset = file.dataset_of(&messages).map_err(at)?;
                file.datasets.insert(path, dataset);
                continue;
            }
            let mut names = HashSet::new();
            for (name, address) in file.links(&messages).map_err(at)? {
                file.spend(path.len() + name.len())?;
                if !names.insert(name) {
                    return Err(format!("has two objects named \"{name}\" in {shown}").into());
                }
                let below = if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
                open.push((below, address, depth + 1));
            }
            file.groups.insert(path, Group { attributes });
        }
        Ok(file)
    }

    /// True if there is a group of that path ("" is the root).
    pub fn has_group(&self, path: &str) -> bool {
        self.groups.contains_key(path)
    }

    /// All arrays by path.
    pub fn datasets(&self) -> impl Iterator<Item = (&str, &Dataset<'a>)> {
        self.datasets.iter().map(|(path, dataset)| (path.as_str(), dataset))
    }

    pub fn dataset(&self, path: &str) -> Option<&Dataset<'a>> {
        self.datasets.get(path)
    }

    /// The groups right below a group.
    pub fn groups_in<'s>(&'s self, path: &'s str) -> impl Iterator<Item = &'s str> {
        self.groups.keys().filter_map(move |below| {
            let name = if path.is_empty() { below } else { below.strip_prefix(path)?.strip_prefix('/')? };
            (!name.is_empty() && !name.contains('/')).then_some(name)
        })
    }

    /// The numbers of an array of f32.
    pub fn values(&self, path: &str, dataset: &Dataset) -> Result<Vec<f32>> {
        let ElementType::Float32 { big_endian } = dataset.element else {
            return Err(format!("has tensor {path} of type {}; only float32 is read", dataset.element).into());
        };
        let data = dataset.data.as_ref().map_err(|why| format!("has tensor {path}, which {why}"))?;
        let left = self.numbers.get().checked_sub(data.len() as u64);
        self.numbers.set(left.ok_or("has more numbers in its arrays than it has room for: they overlap")?);
        let number = |bytes: &[u8]| {
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
            if big_endian { f32::from_be_bytes(bytes) } else { f32::from_le_bytes(bytes) }
        };
        Ok(data.chunks_exact(4).map(number).collect())
    }

    /// The texts of a group's attribute; `None` if it has none of that name.
    pub fn texts(&self, group: &str, name: &str) -> Result<Option<Vec<String>>> {
        let Some(Attribute { element, count, data }) =
            self.groups.get(group).and_then(|group| group.attributes.get(name))
        else {
            return Ok(None);
        };
        // NumPy makes an empty list a list of numbers.
        if *count == 0 {
            return Ok(Some(Vec::new()));
        }
        let text = |bytes: &[u8]| {
            self.spend(bytes.len() + size_of::<String>())?;
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            match std::str::from_utf8(&bytes[..end]) {
                Ok(text) => Ok(text.to_string()),
                Err(error) => Err(Error::because(format!("has an attribute {name} that is no UTF-8"), error)),
            }
        };
        let texts: Result<_> = match element {
            ElementType::Text(size) if *size > 0 => data.chunks_exact(*size as usize).map(text).collect(),
            ElementType::LongText => data.chunks_exact(16).map(|place| text(self.long_text(Reader(place))?)).collect(),
            other => Err(format!("has an attribute {name} of type {other}; text was expected").into()),
        };
        texts.map(Some)
    }

    /// A group's attribute of one text.
    pub fn text(&self, group: &str, name: &str) -> Result<Option<String>> {
        match self.texts(group, name)? {
            None => Ok(None),
            Some(texts) if texts.len() == 1 => Ok(texts.into_iter().next()),
            Some(texts) => Err(format!("has {} texts in its attribute {name}; one was expected", texts.len()).into()),
        }
    }

    /// Counts work, so that it stays in proportion to the file.
    fn spend(&self, bytes: usize) -> Result<()> {
        let left = self.budget.get().checked_sub(bytes as u64);
        self.budget.set(left.ok_or("describes far more than it holds: its HDF5 objects overlap")?);
        Ok(())
    }

    fn at(&self, address: u64) -> Result<Reader<'a>> {
        let start = usize::try_from(address).ok().filter(|&start| start < self.bytes.len());
        let start = start
            .ok_or_else(|| format!("points to byte {address} of {}: it is cut off or damaged", self.bytes.len()))?;
        Ok(Reader(&self.bytes[start..]))
    }

    fn block(&self, address: u64, len: u64) -> Result<&'a [u8]> {
        let len = usize::try_from(len).map_err(|_| format!("has an HDF5 block of {len} bytes"))?;
        let short = |_| {
            Error::from(format!("has an HDF5 block of {len} bytes at {address}, past its end at {}", self.bytes.len()))
        };
        self.at(address)?.take(len).map_err(short)
    }

    /// The address of the root group's header.
    fn superblock(&self) -> Result<u64> {
        let mut reader = Reader(self.bytes);
        if reader.take(8).ok() != Some(&SIGNATURE) {
            return Err("is no HDF5 file: its first bytes are not HDF5's".into());
        }
        let version = reader.u8()?;
        let sizes = |reader: &mut Reader| match (reader.u8()?, reader.u8()?) {
            (8, 8) => Ok::<(), Error>(()),
            (offset, length) => {
                Err(format!("has HDF5 addresses of {offset} and lengths of {length} bytes; 8 are expected").into())
            }
        };
        match version {
            0 | 1 => {
                reader.take(4)?;
                sizes(&mut reader)?;
                // reserved, sizes of nodes, flags; version 1 has a size more
                reader.take(if version == 0 { 9 } else { 13 })?;
            }
            2 | 3 => {
                sizes(&mut reader)?;
                reader.take(1)?;
            }
            _ => return Err(format!("has an HDF5 superblock of version {version}; 0 to 3 are read").into()),
        }
        let base = reader.u64()?;
        if base != 0 {
            return Err(format!("begins its HDF5 addresses at {base}; files with a user block are not read").into());
        }
        // free space or extension, end of file; old versions: a driver's block, and the root's name
        reader.take(if version < 2 { 32 } else { 16 })?;
        reader.u64()
    }

    /// All messages of an object's header.
    fn messages(&self, address: u64) -> Result<Vec<Message<'a>>> {
        let mut reader = self.at(address)?;
        let mut all = Vec::new();
        // What is left to read, with whether it is a continuation
        let mut blocks: Vec<Reader<'a>> = Vec::new();
        let mut seen = HashSet::new();
        let modern = reader.0.starts_with(b"OHDR");
        let mut ordered = false;
        if modern {
            reader.take(4)?;
            let version = reader.u8()?;
            if version != 2 {
                return Err(format!("has an HDF5 object header of version {version}; 1 and 2 are read").into());
            }
            let flags = reader.u8()?;
            ordered = flags & 4 != 0;
            reader.take(if flags & 32 != 0 { 16 } else { 0 } + if flags & 16 != 0 { 4 } else { 0 })?;
            let len = reader.number(1 << (flags & 3))?;
            let len = usize::try_from(len).map_err(|_| format!("has an HDF5 object header of {len} bytes"))?;
            blocks.push(Reader(reader.take(len)?));
        } else {
            let version = reader.u8()?;
            if version != 1 {
                return Err(format!("has an HDF5 object header of version {version}; 1 and 2 are read").into());
            }
            reader.take(7)?; // reserved, number of messages, links to this object
            let len = reader.u32()?;
            reader.take(4)?;
            blocks.push(Reader(reader.take(len as usize)?));
        }
        let head = if !modern {
            8
        } else if ordered {
            6
        } else {
            4
        };
        while let Some(mut block) = blocks.pop() {
            self.spend(block.0.len())?;
            while block.0.len() >= head {
                let kind = if modern { block.u8()?.into() } else { block.u16()? };
                let len = block.u16()?;
                let flags = block.u8()?;
                block.take(head - if modern { 4 } else { 5 })?;
                let mut data = Reader(block.take(len.into())?);
                if flags & 2 != 0 && kind != message::CONTINUATION {
                    return Err("has an HDF5 message that is shared, or a type of its own; Keras writes neither".into());
                }
                if all.len() >= MESSAGES {
                    return Err(format!("has an HDF5 object header of more than {MESSAGES} messages").into());
                }
                if kind != message::CONTINUATION {
                    all.push(Message { kind, data });
                    continue;
                }
                let (address, len) = (data.u64()?, data.u64()?);
                if !seen.insert(address) {
                    return Err("has an HDF5 object header whose continuations form a cycle".into());
                }
                let mut more = Reader(self.block(address, len)?);
                if modern {
                    more.expect("continued header", b"OCHK")?;
                    let len = more.0.len().saturating_sub(4); // without the checksum
                    more = Reader(more.take(len)?);
                }
                blocks.push(more);
            }
        }
        Ok(all)
    }

    fn attributes(&self, messages: &[Message<'a>]) -> Result<BTreeMap<String, Attribute<'a>>> {
        let mut all = BTreeMap::new();
        for message in messages {
            let mut data = message.data;
            match message.kind {
                message::ATTRIBUTE_INFO => {
                    let flags = data.take(2)?[1];
                    data.take(if flags & 1 != 0 { 2 } else { 0 })?;
                    if data.u64()? != UNDEFINED {
                        return Err(
                            "stores attributes in a fractal heap (h5py's libver=\"latest\"), which is not read".into(),
                        );
                    }
                }
                message::ATTRIBUTE => {
                    let (name, attribute) = attribute(data)?;
                    self.spend(name.len())?;
                    if all.insert(name.clone(), attribute).is_some() {
                        return Err(format!("has two attributes named {name}").into());
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn dataset_of(&self, messages: &[Message<'a>]) -> Result<Dataset<'a>> {
        let find = |kind: u16, what: &str| {
            let found = messages.iter().find(|message| message.kind == kind).map(|message| message.data);
            found.ok_or_else(|| Error::from(format!("has an array without its {what}")))
        };
        let element = datatype(&mut find(message::DATATYPE, "type")?)?;
        let shape = dataspace(find(message::DATASPACE, "shape")?)?;
        let elements = elements(&shape)?;
        let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        let needed = elements.checked_mul(element.size()).ok_or_else(|| format!("has an array of shape {shape:?}"))?;
        let filtered = messages.iter().any(|message| message.kind == message::FILTERS);
        let elsewhere = messages.iter().any(|message| message.kind == message::EXTERNAL);
        let mut layout = find(message::LAYOUT, "place")?;
        // An array that cannot be read matters only if it is asked for.
        let mut place = || -> Result<&'a [u8]> {
            if elsewhere {
                return Err("lies in another file".into());
            }
            let version = layout.u8()?;
            if !(3..=4).contains(&version) {
                return Err(format!("has an HDF5 layout of version {version}; 3 and 4 are read").into());
            }
            let data = match layout.u8()? {
                _ if filtered => Err("is compressed; Keras writes plain arrays".into()),
                0 => {
                    let len = layout.u16()?;
                    layout.take(len.into())
                }
                1 => match (layout.u64()?, layout.u64()?) {
                    _ if needed == 0 => Ok(&[][..]),
                    (UNDEFINED, _) => Err("was never written".into()),
                    (address, len) => self.block(address, len),
                },
                2 => Err("is stored in chunks; Keras writes arrays in one piece".into()),
                class => Err(format!("has an HDF5 layout of class {class}; Keras writes arrays in one piece").into()),
            }?;
            if data.len() as u64 == needed {
                Ok(data)
            } else {
                Err(format!("has shape {shape:?} of {element}, {needed} bytes, but {} are stored", data.len()).into())
            }
        };
        let data = place();
        Ok(Dataset { shape, element, data })
    }

    /// Names and header addresses of a group's members.
    fn links(&self, messages: &[Message<'a>]) -> Result<Vec<(&'a str, u64)>> {
        let mut all = Vec::new();
        for message in messages {
            let mut data = message.data;
            match message.kind {
                message::SYMBOL_TABLE => {
                    let (tree, heap) = (data.u64()?, data.u64()?);
                    self.symbols(tree, heap, &mut all)?;
                }
                message::LINK_INFO => {
                    let flags = data.take(2)?[1];
                    data.take(if flags & 1 != 0 { 8 } else { 0 })?;
                    if data.u64()? != UNDEFINED {
                        return Err(
                            "stores a group's members in a fractal heap (h5py's libver=\"latest\"), which is not read"
                                .into(),
                        );
                    }
                }
                message::LINK => all.push(link(data)?),
                _ => {}
            }
        }
        Ok(all)
    }

    /// The members of an old group: a tree of nodes, each with a list of names and addresses.
    fn symbols(&self, tree: u64, heap: u64, into: &mut Vec<(&'a str, u64)>) -> Result<()> {
        let mut heap = self.at(heap)?;
        heap.expect("local heap", b"HEAP")?;
        heap.take(4)?;
        let len = heap.u64()?;
        heap.take(8)?;
        let names = self.block(heap.u64()?, len)?;
        let mut seen = HashSet::new();
        let mut open = vec![tree];
        while let Some(address) = open.pop() {
            if !seen.insert(address) {
                return Err("has a group whose nodes form a cycle".into());
            }
            let mut node = self.at(address)?;
            if node.0.starts_with(b"TREE") {
                node.take(4)?;
                let kind = node.u8()?;
                if kind != 0 {
                    return Err(format!("has a group whose node is of kind {kind}").into());
                }
                node.take(1)?; // level
                let used = node.u16()?;
                node.take(16)?; // siblings
                self.spend(16 * usize::from(used))?;
                for _ in 0..used {
                    node.take(8)?; // a name's place
                    open.push(node.u64()?);
                }
                continue;
            }
            node.expect("group's node", b"SNOD")?;
            node.take(2)?;
            let used = node.u16()?;
            self.spend(40 * usize::from(used))?;
            for _ in 0..used {
                let (name, header, cache) = (node.u64()?, node.u64()?, node.u32()?);
                node.take(20)?;
                let start = usize::try_from(name).ok().filter(|&start| start < names.len());
                let name = &names[start.ok_or("has a name outside its heap")?..];
                let name = checked(&name[..name.iter().take(LONGEST + 1).position(|&b| b == 0).unwrap_or(name.len())])?;
                if cache == 2 {
                    return Err(format!("has a soft link, \"{name}\"; links are not followed").into());
                }
                into.push((name, header));
            }
        }
        Ok(())
    }

    /// A text in the global heap.
    fn long_text(&self, mut place: Reader) -> Result<&'a [u8]> {
        let (len, address, index) = (place.u32()?, place.u64()?, place.u32()?);
        if len == 0 {
            return Ok(&[]);
        }
        let mut heaps = self.heaps.borrow_mut();
        if let std::collections::hash_map::Entry::Vacant(entry) = heaps.entry(address) {
            entry.insert(self.heap(address)?);
        }
        let object = u16::try_from(index).ok().and_then(|index| heaps[&address].get(&index));
        let object = object.ok_or_else(|| format!("lacks object {index} of the global heap at {address}"))?;
        object
            .get(..len as usize)
            .ok_or_else(|| format!("has a text of {len} bytes in {} of a heap", object.len()).into())
    }

    fn heap(&self, address: u64) -> Result<Heap<'a>> {
        let mut head = self.at(address)?;
        head.expect("global heap", b"GCOL")?;
        head.take(4)?;
        let len = head.u64()?;
        let mut heap = Reader(self.block(address, len)?);
        self.spend(heap.0.len())?;
        heap.take(16)?;
        let mut objects = HashMap::new();
        while heap.0.len() >= 16 {
            let index = heap.u16()?;
            heap.take(6)?;
            let len = heap.u64()?;
            if index == 0 {
                break; // what is left is free
            }
            let len = usize::try_from(len).map_err(|_| format!("has a text of {len} bytes"))?;
            let object = heap.take(len)?;
            heap.take((8 - len % 8) % 8)?;
            if objects.insert(index, object).is_some() {
                return Err(format!("has two objects {index} in a global heap").into());
            }
        }
        Ok(objects)
    }
}

/// A name, if it may be one.
fn checked(name: &[u8]) -> Result<&str> {
    let good = |name: &str| !name.is_empty() && name.len() <= LONGEST && name != "." && !name.contains(['/', '\0']);
    let name = name.get(..name.len().min(LONGEST + 1)).unwrap_or_default();
    std::str::from_utf8(name)
        .ok()
        .filter(|name| good(name))
        .ok_or_else(|| format!("has an object whose name is empty, longer than {LONGEST} bytes, or no name").into())
}

fn link(mut data: Reader<'_>) -> Result<(&str, u64)> {
    let version = data.u8()?;
    if version != 1 {
        return Err(format!("has a link of version {version}; 1 is read").into());
    }
    let flags = data.u8()?;
    let kind = if flags & 8 != 0 { data.u8()? } else { 0 };
    data.take(if flags & 4 != 0 { 8 } else { 0 } + if flags & 16 != 0 { 1 } else { 0 })?;
    let len = data.number(1 << (flags & 3))?;
    let name = checked(data.take(usize::try_from(len).map_err(|_| format!("has a name of {len} bytes"))?)?)?;
    match kind {
        0 => Ok((name, data.u64()?)),
        1 => Err(format!("has a soft link, \"{name}\"; links are not followed").into()),
        64 => Err(format!("has a link to another file, \"{name}\"; links are not followed").into()),
        _ => Err(format!("has a link of kind {kind}, \"{name}\"; links are not followed").into()),
    }
}

fn attribute(mut data: Reader<'_>) -> Result<(String, Attribute<'_>)> {
    let version = data.u8()?;
    if !(1..=3).contains(&version) {
        return Err(format!("has an attribute of version {version}; 1 to 3 are read").into());
    }
    let flags = data.u8()?;
    if version > 1 && flags & 3 != 0 {
        return Err("has an attribute whose type or shape is shared; Keras writes none".into());
    }
    let [name, element, shape] = [data.u16()?, data.u16()?, data.u16()?].map(usize::from);
    if version == 3 {
        data.take(1)?; // the name's encoding
    }
    let mut part = |len: usize| {
        let part = data.take(len)?;
        // Version 1 goes on at multiples of 8.
        data.take(if version == 1 { (8 - len % 8) % 8 } else { 0 })?;
        Ok::<_, Error>(part)
    };
    let name = part(name)?;
    let name = checked(&name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())])?.to_string();
    let element = datatype(&mut Reader(part(element)?))?;
    let count = elements(&dataspace(Reader(part(shape)?))?)?;
    let bytes = count.checked_mul(element.size()).and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.ok_or_else(|| format!("has an attribute {name} of {count} elements"))?;
    let data = data.take(bytes).map_err(|_| format!("has an attribute {name} of {bytes} bytes, which is cut off"))?;
    Ok((name, Attribute { element, count, data }))
}

/// Sizes; none for one number, one of 0 for none.
fn dataspace(mut data: Reader) -> Result<Vec<u64>> {
    let version = data.u8()?;
    let (rank, flags) = (data.u8()?, data.u8()?);
    let kind = data.u8()?;
    match version {
        1 => drop(data.take(4)?),
        2 if kind == 2 => return Ok(vec![0]),
        2 => {}
        _ => return Err(format!("has a shape of version {version}; 1 and 2 are read").into()),
    }
    if rank > 32 || flags & 2 != 0 {
        return Err(format!("has a shape of {rank} axes, or a permuted one").into());
    }
    (0..rank).map(|_| data.u64()).collect()
}

fn elements(shape: &[u64]) -> Result<u64> {
    let count = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    // Sizes of empty arrays matter, too: they are kept as usize.
    let small = shape.iter().all(|&size| usize::try_from(size).is_ok());
    count.filter(|_| small).ok_or_else(|| format!("has a shape {shape:?}, which is too large").into())
}

fn datatype(data: &mut Reader) -> Result<ElementType> {
    let class = data.u8()?;
    let flags = data.number(3)?;
    let size = data.u32()?;
    let bits = size.checked_mul(8).ok_or_else(|| format!("has elements of {size} bytes"))?;
    Ok(match class & 15 {
        0 => ElementType::Integer { bits, signed: flags & 8 != 0 },
        1 => {
            // offset, precision, place and width of exponent, place and width of mantissa, bias
            let ieee = [0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];
            let properties = data.take(12)?;
            // order of bytes; the sign's place, a mantissa whose first bit is implied
            let (order, form) = (flags & 0x41, flags & 0xff30);
            if size == 4 && properties == ieee && form == 0x1f20 && order <= 1 {
                ElementType::Float32 { big_endian: order == 1 }
            } else {
                ElementType::Float { bits }
            }
        }
        3 => ElementType::Text(size),
        9 if flags & 15 == 1 && size == 16 => ElementType::LongText,
        class => ElementType::Other { class, size },
    })
}
