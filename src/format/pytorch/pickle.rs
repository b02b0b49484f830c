//! A pickle machine that reads pickles as data: it builds the values that the program describes and makes no call.
//!
//! It knows the instructions that `torch.save` emits (protocols 2 to 5); any other is refused by name. What a program would
//! call becomes a [`Value::Call`] with its arguments, whatever its name; who reads the values decides which calls he knows.
//! Values lie in a list and refer to each other by index, so that cycles and depth cost nothing here.

use std::collections::HashMap;

/// Bytes of the longest pickle that is read; tensors' numbers lie outside.
pub(super) const LONGEST: usize = 16 << 20;
/// Values of the largest pickle that is read.
pub(super) const MOST: usize = 1 << 20;

/// Index into [`Pickle::values`].
pub(super) type Id = usize;

/// A value of a pickle. Texts borrow from the file.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A float, a byte string or an integer beyond 64 bits, whose value is not needed.
    Other,
    Text(&'a str),
    /// A class or function: module and name.
    Global(&'a str, &'a str),
    /// A list, tuple or set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// An object outside of the pickle, by its description (persistent id).
    Persistent(Id),
    /// A call that is not made: `callee` with its arguments, the state that its result would be given, and the entries set in it.
    Call {
        callee: Id,
        arguments: Id,
        state: Option<Id>,
        entries: Vec<(Id, Id)>,
    },
}

/// A pickle that is not read. The message follows the file's name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("has a pickle that is not read: at its byte {at}, {reason}")]
pub(super) struct Error {
    /// Byte of the instruction that failed.
    at: usize,
    reason: String,
}

/// The value that a pickle describes, with the values that it consists of.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub values: Vec<Value<'a>>,
    pub root: Id,
    /// Bytes that it took.
    pub len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of `bytes`, up to its end mark.
    ///
    /// # Errors
    /// The reason, with the byte of the instruction.
    pub fn read(bytes: &'a [u8]) -> Result<Pickle<'a>, Error> {
        let mut machine = Machine { bytes, at: 0, values: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
        loop {
            let at = machine.at;
            let done = match machine.step() {
                Ok(None) if machine.at > LONGEST => Err(format!("it is longer than {LONGEST} bytes")),
                Ok(None) if machine.values.len() > MOST => Err(format!("it describes more than {MOST} values")),
                other => other,
            };
            match done {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Pickle { values: machine.values, root, len: machine.at }),
                Err(reason) => return Err(Error { at, reason }),
            }
        }
    }

    /// The text there.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        match self.values.get(id) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The number there, where it can be a size.
    pub fn size(&self, id: Id) -> Option<usize> {
        match self.values.get(id) {
            Some(Value::Int(value)) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The elements of the list or tuple there.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.values.get(id) {
            Some(Value::Sequence(items)) => Some(items),
            _ => None,
        }
    }

    /// The entries of the dict there.
    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.values.get(id) {
            Some(Value::Dict(entries)) => Some(entries),
            _ => None,
        }
    }

    /// The entry of that name of the dict there; the last one, as in Python.
    pub fn entry(&self, id: Id, key: &str) -> Option<Id> {
        self.dict(id)?.iter().rev().find(|&&(name, _)| self.text(name) == Some(key)).map(|&(_, value)| value)
    }

    /// Module and name of the class or function there.
    pub fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.values.get(id) {
            Some(&Value::Global(module, name)) => Some((module, name)),
            _ => None,
        }
    }
}

/// State of the pickle machine: position, stack and memo.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Does one instruction; the root after the last one.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let code = self.array::<1>()?[0];
        match code {
            // PROTO, FRAME
            0x80 => match self.array::<1>()?[0] {
                2..=5 => {}
                other => return Err(format!("protocol {other} is not supported (2 to 5 are)")),
            },
            0x95 => {
                self.array::<8>()?;
            }
            b'.' => return self.pop().map(Some),
            // Plain values
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.array::<1>()?[0];
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            0x8a => {
                let len = self.array::<1>()?[0].into();
                self.long(len)?;
            }
            0x8b => {
                let len = self.len4()?;
                self.long(len)?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other);
            }
            // Texts and bytes
            b'X' => {
                let len = self.len4()?;
                self.unicode(len)?;
            }
            0x8c => {
                let len = self.array::<1>()?[0].into();
                self.unicode(len)?;
            }
            0x8d => {
                let len = self.len8()?;
                self.unicode(len)?;
            }
            b'U' => {
                let len = self.array::<1>()?[0].into();
                self.old_text(len)?;
            }
            b'T' => {
                let len = self.len4()?;
                self.old_text(len)?;
            }
            b'C' => {
                let len = self.array::<1>()?[0].into();
                self.binary(len)?;
            }
            b'B' => {
                let len = self.len4()?;
                self.binary(len)?;
            }
            0x8e | 0x96 => {
                let len = self.len8()?;
                self.binary(len)?;
            }
            // Lists, tuples, sets
            b'(' => self.marks.push(self.stack.len()),
            b']' | b')' | 0x8f => self.push(Value::Sequence(vec![])),
            0x85..=0x87 => {
                let first = self.height(usize::from(code - 0x84))?;
                let items = self.stack.split_off(first);
                self.push(Value::Sequence(items));
            }
            b't' | 0x91 => {
                let items = self.marked()?;
                self.push(Value::Sequence(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.append(items)?;
            }
            // Dicts
            b'}' => self.push(Value::Dict(vec![])),
            b's' => {
                let first = self.height(2)?;
                let items = self.stack.split_off(first);
                self.set(&items)?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(&items)?;
            }
            // The stack and the memo
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.marked()?;
            }
            b'q' => {
                let place = self.array::<1>()?[0];
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.array()?);
                self.remember(place)?;
            }
            0x94 => {
                // As many as there are instructions at most, and those are fewer than LONGEST.
                self.remember(self.memo.len() as u32)?;
            }
            b'h' => {
                let place = self.array::<1>()?[0];
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
            }
            // Classes, functions and what would be called
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (&Value::Text(module), &Value::Text(name)) => self.push(Value::Global(module, name)),
                    _ => return Err("a class is not named by two texts".into()),
                }
            }
            b'Q' => {
                let description = self.pop()?;
                self.push(Value::Persistent(description));
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            0x92 => {
                let (_named, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            b'b' => {
                let (given, object) = (self.pop()?, self.top()?);
                match &mut self.values[object] {
                    Value::Call { state: Some(_), .. } => return Err("an object gets a state twice".into()),
                    Value::Call { state, .. } => *state = Some(given),
                    // Attributes of an OrderedDict, such as a state dict's versions
                    Value::Dict(_) => {}
                    _ => return Err("a state is given to a value that has none".into()),
                }
            }
            other => return Err(refusal(other)),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The stack's height without its last `count` values, which must be above the last mark.
    fn height(&self, count: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let first = self.stack.len().checked_sub(count).filter(|&first| first >= floor);
        first.ok_or_else(|| "the stack holds fewer values than an instruction takes".into())
    }

    fn top(&self) -> Result<Id, String> {
        Ok(self.stack[self.height(1)?])
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        // Nothing takes values from below a mark.
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::Sequence(all) => all.extend(items),
            // A list of another class
            Value::Call { .. } => {}
            _ => return Err("values are appended to something other than a list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.values[dict] {
            _ if !items.len().is_multiple_of(2) => return Err("a dict's key has no value".into()),
            Value::Dict(entries) | Value::Call { entries, .. } => {
                entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            _ => return Err("entries are set in something other than a dict".into()),
        }
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let value = self.memo.get(&place).ok_or_else(|| format!("memo {place} is empty"))?;
        self.stack.push(*value);
        Ok(())
    }

    fn call(&mut self, callee: Id, arguments: Id) -> Result<(), String> {
        let Value::Sequence(given) = &self.values[arguments] else { return Err("arguments are no tuple".into()) };
        let ordered = matches!(self.values[callee], Value::Global("collections", "OrderedDict"));
        if !ordered {
            self.push(Value::Call { callee, arguments, state: None, entries: vec![] });
            return Ok(());
        }
        // OrderedDict() or OrderedDict([[key, value], ...])
        let pairs = match given.first().map(|&pairs| &self.values[pairs]) {
            None => &[][..],
            Some(Value::Sequence(pairs)) => pairs,
            Some(_) => return Err("the argument of an OrderedDict is no list".into()),
        };
        let pair = |&pair: &Id| match &self.values[pair] {
            Value::Sequence(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err("the argument of an OrderedDict is no list of pairs".to_string()),
        };
        let entries = pairs.iter().map(pair).collect::<Result<_, _>>()?;
        self.push(Value::Dict(entries));
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let left = self.bytes.len() - self.at;
        let own = self.bytes[self.at..].get(..len);
        let own = own.ok_or_else(|| format!("{len} bytes are expected, the file has {left}; it is cut off"))?;
        self.at += len;
        Ok(own)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let own = self.take(N)?;
        own.try_into().map_err(|_| "bytes are missing".into())
    }

    fn len4(&mut self) -> Result<usize, String> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|error| error.to_string())
    }

    fn len8(&mut self) -> Result<usize, String> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|error| error.to_string())
    }

    /// An integer of that many bytes.
    fn long(&mut self, len: usize) -> Result<(), String> {
        let own = self.take(len)?;
        let sign = own.last().is_some_and(|&last| last >= 0x80);
        let mut whole = [if sign { 0xff } else { 0 }; 8];
        if let Some(low) = whole.get_mut(..len) {
            low.copy_from_slice(own);
            self.push(Value::Int(i64::from_le_bytes(whole)));
        } else {
            self.push(Value::Other);
        }
        Ok(())
    }

    fn unicode(&mut self, len: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(len)?).map_err(|error| format!("a text is no UTF-8: {error}"))?;
        self.push(Value::Text(text));
        Ok(())
    }

    /// A string of Python 2, text or not.
    fn old_text(&mut self, len: usize) -> Result<(), String> {
        let value = std::str::from_utf8(self.take(len)?).map_or(Value::Other, Value::Text);
        self.push(value);
        Ok(())
    }

    fn binary(&mut self, len: usize) -> Result<(), String> {
        self.take(len)?;
        self.push(Value::Other);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take(1024).position(|&byte| byte == b'\n').ok_or("a name has no end")?;
        let line = std::str::from_utf8(&rest[..len]).map_err(|error| format!("a name is no UTF-8: {error}"))?;
        self.at += len + 1;
        Ok(line)
    }
}

/// Why an instruction is not done.
fn refusal(code: u8) -> String {
    let name = match code {
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'p' => "PUT",
        b'g' => "GET",
        b'l' => "LIST",
        b'd' => "DICT",
        b'i' => "INST",
        b'o' => "OBJ",
        b'2' => "DUP",
        b'P' => "PERSID",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => return format!("{code:#04x} is no instruction"),
    };
    format!("torch.save does not emit the instruction {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Pickle::read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn calls_are_kept_and_not_made() {
        let bytes = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        let pickle = Pickle::read(bytes).unwrap();
        let Value::Call { callee, arguments, .. } = pickle.values[pickle.root] else { panic!() };
        assert_eq!(pickle.global(callee), Some(("os", "system")));
        assert_eq!(pickle.text(pickle.sequence(arguments).unwrap()[0]), Some("true"));
        assert_eq!(pickle.len, bytes.len());
    }

    #[test]
    fn integers_have_signs() {
        for (bytes, value) in [
            (&b"\x8a\x01\xff."[..], -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x02\x00\x80.", -32768),
            (b"\x8a\x03\x00\x80\x00.", 32768),
            (b"J\xfe\xff\xff\xff.", -2),
        ] {
            let pickle = Pickle::read(bytes).unwrap();
            assert!(matches!(pickle.values[pickle.root], Value::Int(own) if own == value), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bytes, part) in [
            (&b""[..], "cut off"),
            (b"\x80\x02.", "fewer values"),
            (b"\x80\x09N.", "protocol 9"),
            (b"\x80\x02X\xff\xff\xff\xffab", "4294967295 bytes"),
            (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xffab", "cut off"),
            (b"(N\x85(0.", "fewer values"),
            (b"t.", "mark is missing"),
            (b"h\x05.", "memo 5 is empty"),
            (b"}Ns.", "fewer values"),
            (b"}(Nu.", "no value"),
            (b"I1\n.", "INT"),
            (b"\x82\x01.", "EXT1"),
            (b"\xee", "0xee is no instruction"),
            (b"X\x02\x00\x00\x00\xff\xfe.", "no UTF-8"),
            (b"NN\x93.", "two texts"),
            (b"NNR.", "no tuple"),
            (b"NNb.", "has none"),
            (b"cabc", "no end"),
        ] {
            assert!(refused(bytes).contains(part), "{part}: {}", refused(bytes));
        }
    }

    #[test]
    fn many_values_and_deep_ones_have_an_end() {
        // Values in each other, as deep as they are many
        let mut deep = vec![b']'; 900_000];
        deep.extend(vec![b'a'; 899_999]);
        deep.push(b'.');
        assert_eq!(Pickle::read(&deep).unwrap().values.len(), 900_000);
        let mut many = vec![b'N'; MOST + 2];
        many.push(b'.');
        assert!(refused(&many).contains("more than 1048576 values"));
        let mut long = vec![b'N', b'q', 0];
        long.extend(std::iter::repeat_n([b'h', 0], LONGEST / 2).flatten());
        long.push(b'.');
        assert!(refused(&long).contains("longer than"));
    }

    #[test]
    fn cycles_are_values_like_others() {
        let pickle = Pickle::read(b"]q\x00h\x00a.").unwrap();
        assert_eq!(pickle.sequence(pickle.root), Some(&[pickle.root][..]));
    }
}
