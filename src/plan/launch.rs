//! Passes of the recurrence, and launches for them, as data.

use super::Strategy;
use crate::cell::CELLS;
use crate::kernel::Division;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;

/// Name of a cell. serde would borrow a `&'static str` from what it reads.
type CellName = &'static str;

/// A layer's pass over a batch, for which a launch is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Recurrence {
    /// True for the backward pass.
    pub backward: bool,
    /// Name of the cell.
    #[serde(deserialize_with = "cell_name")]
    pub cell: CellName,
    /// H.
    pub hidden: u32,
    /// Heads.
    pub heads: u32,
    /// Terms of a unit's recurrent product, as far as the cell's kernel computes it.
    pub terms: u32,
    /// I, if the step computes the input product, too.
    pub input: Option<u32>,
    /// B.
    pub batch: u32,
    /// D.
    pub directions: u32,
    /// T.
    pub steps: u32,
    /// True if no other kernels run between the steps.
    pub fused: bool,
    /// True if a step's code is short: drivers take too long to compile longer code for many rows and units of a thread.
    pub plain: bool,
}

/// Division of a dispatch of the recurrence among workgroups and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The strategy of which it is a part.
    pub strategy: Strategy,
    /// The kernels that divide it so.
    pub division: Division,
    /// Batch rows of a workgroup, which share each weight that is loaded: 1, 2, 4 or 8.
    pub rows: u32,
    /// Hidden units of a workgroup.
    pub units: u32,
    /// Hidden units that a thread computes at once, which share each load of a row's state.
    pub span: u32,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Workgroup memory, in elements of 16 bytes.
    pub memory: u32,
    /// Time steps of a dispatch.
    pub steps: u32,
}

/// Steps from which on a pass has the same choice, whatever its length.
const MANY_STEPS: u32 = 128;

impl Recurrence {
    /// The pass for which a choice is made: that of passes of about as many steps, which would choose alike. T is rounded up to a power
    /// of two and is at most 128.
    pub fn shape(&self) -> Recurrence {
        Recurrence { steps: self.steps.min(MANY_STEPS).next_power_of_two(), ..*self }
    }

    /// True if the pass can be run apart from its layer, to be measured; steps of several layers at once cannot.
    pub fn has_sample(&self) -> bool {
        self.input.is_none() || self.steps == 1
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recurrence { backward, cell, hidden, heads, input, batch, directions, steps, .. } = self;
        let pass = if *backward { "backward" } else { "forward" };
        write!(f, "{pass} T={steps} B={batch} H={hidden} D={directions} {cell}")?;
        if *heads > 1 {
            write!(f, " heads={heads}")?;
        }
        input.map_or(Ok(()), |input| write!(f, " from the input I={input}"))
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Launch { strategy, division, rows, units, span, threads, .. } = self;
        let kernel = match division {
            Division::Scan => "scan",
            Division::Step => "step",
            Division::Sequence => "sequence",
            Division::Grid => "grid",
        };
        write!(f, "{} {kernel}, {rows} rows x {units} units, {threads} threads, span {span}", strategy.name())
    }
}

/// The name of a cell of this build.
fn cell_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CellName, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = CELLS.iter().find(|cell| cell.name == name);
    known.map(|cell| cell.name).ok_or_else(|| de::Error::custom(format!("there is no cell \"{name}\"")))
}
