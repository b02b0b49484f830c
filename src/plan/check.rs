//! A plan's own rules: sizes, bindings and the order of writes and reads.

use super::{Buffer, Capabilities, Command, Plan, Role};
use crate::error::{Error, Result, Unit};
use crate::kernel::{Access, Touch};
use std::collections::HashSet;

type Range = std::ops::Range<u64>;

impl Plan {
    /// Checks that every command has its kernel's bindings and binds a buffer that it writes once, that all accesses are inside their buffers, that
    /// sizes are within the device's limits, and that no element is read before it is written. Blocks with strides count as
    /// written from their first element to their last.
    pub fn check(&self, capabilities: &Capabilities) -> Result<()> {
        self.check_buffers(capabilities)?;
        let mut written: Vec<Ranges> = self.buffers.iter().map(Ranges::new).collect();
        for (index, command) in self.commands.iter().enumerate() {
            let touches = self.check_command(index, command, capabilities)?;
            for (touch, id) in touches.iter().zip(&command.buffers) {
                let Some(range) = touch.read.map(|region| region.bounds()) else { continue };
                if !written[id.0].contains(&range) {
                    let name = &self.buffers[id.0].name;
                    return Err(self.broken(index, format!("reads {range:?} of {name} before it is written")));
                }
            }
            for (touch, id) in touches.iter().zip(&command.buffers) {
                if let Some(region) = touch.write {
                    written[id.0].insert(region.bounds());
                }
            }
        }
        Ok(())
    }

    fn check_buffers(&self, capabilities: &Capabilities) -> Result<()> {
        let mut names = HashSet::new();
        for buffer in &self.buffers {
            if !names.insert(&buffer.name) {
                return Err(Error::Plan(format!("two buffers are called {}", buffer.name)));
            }
            if buffer.bytes() > capabilities.max_binding_bytes {
                return Err(Error::TooLarge {
                    what: format!("buffer {}", buffer.name),
                    needed: buffer.bytes(),
                    available: capabilities.max_binding_bytes,
                    unit: Unit::Bytes,
                    advice: "use a smaller model or batch, or Device::cpu()".into(),
                });
            }
        }
        match capabilities.memory_bytes {
            Some(available) if self.bytes() > available => Err(Error::TooLarge {
                what: format!("{} (all {} buffers)", self.title, self.buffers.len()),
                needed: self.bytes(),
                available,
                unit: Unit::Bytes,
                advice: "use a smaller batch or shorter sequences".into(),
            }),
            _ => Ok(()),
        }
    }

    fn check_command(&self, index: usize, command: &Command, capabilities: &Capabilities) -> Result<Vec<Touch>> {
        let kernel = command.call.kernel;
        let sizes = [
            ("buffers", command.buffers.len(), kernel.bindings.len()),
            ("parameters", command.call.params.len(), kernel.params.len()),
            ("constants", command.call.constants.len(), kernel.constants.len()),
        ];
        for (what, given, expected) in sizes {
            if given != expected {
                return Err(self.broken(index, format!("{given} {what}, the kernel takes {expected}")));
            }
        }
        if kernel.takes_cell != command.call.cell.is_some() {
            return Err(self.broken(index, "a cell where none belongs, or none where one does".into()));
        }
        let touches = command.call.touches();
        if touches.len() != kernel.bindings.len() {
            return Err(
                self.broken(index, format!("{} of {} bindings described", touches.len(), kernel.bindings.len()))
            );
        }
        for (k, id) in command.buffers.iter().enumerate() {
            let same = |&earlier: &usize| command.buffers[earlier] == *id;
            let is_written = |k: usize| kernel.bindings[k].access != Access::Read;
            if (0..k).filter(same).any(|earlier| is_written(earlier) || is_written(k)) {
                return Err(self.broken(index, format!("{} is bound twice, and written", self.buffers[id.0].name)));
            }
            let buffer = &self.buffers[id.0];
            if touches[k].end() > buffer.len {
                let what = format!("reaches element {} of {}, which has {}", touches[k].end(), buffer.name, buffer.len);
                return Err(self.broken(index, what));
            }
            if kernel.bindings[k].access == Access::Read && touches[k].write.is_some() {
                return Err(self.broken(index, format!("writes {}, which the kernel only reads", buffer.name)));
            }
        }
        let most = command.call.groups().into_iter().max().unwrap_or(0);
        if most > capabilities.max_groups {
            return Err(Error::TooLarge {
                what: format!("one dispatch of {}", kernel.name),
                needed: most,
                available: capabilities.max_groups,
                unit: Unit::Workgroups,
                advice: "use a smaller batch or fewer hidden units".into(),
            });
        }
        Ok(touches)
    }

    fn broken(&self, index: usize, what: String) -> Error {
        let command = &self.commands[index];
        Error::Plan(format!(
            "command {index} ({}, {}): {what}",
            self.sections[command.section], command.call.kernel.name
        ))
    }
}

/// Written ranges of a buffer, sorted and apart.
struct Ranges(Vec<Range>);

impl Ranges {
    fn new(buffer: &Buffer) -> Ranges {
        match buffer.role {
            Role::Input | Role::Weight | Role::Optimiser | Role::State => {
                Ranges(std::iter::once(0..buffer.len).collect())
            }
            Role::Gradient | Role::Output | Role::Scratch => Ranges(Vec::new()),
        }
    }

    fn contains(&self, range: &Range) -> bool {
        range.is_empty() || self.0.iter().any(|have| have.start <= range.start && range.end <= have.end)
    }

    fn insert(&mut self, new: Range) {
        if new.is_empty() {
            return;
        }
        let first = self.0.partition_point(|have| have.end < new.start);
        let last = self.0.partition_point(|have| have.start <= new.end);
        let merged = match self.0[first..last] {
            [] => new,
            [ref one] => one.start.min(new.start)..one.end.max(new.end),
            [ref low, .., ref high] => low.start.min(new.start)..high.end.max(new.end),
        };
        self.0.splice(first..last, [merged]);
    }
}
