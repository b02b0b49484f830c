//! Division of a time step's products among the threads of a workgroup that share terms: `step_*` and `sequence_*`.

/// A workgroup's part of the recurrence and its threads.
///
/// Elements staged in workgroup memory are, forward, fours of terms of h, and backward the gates of a term: 16 bytes each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// True for the backward pass, where a thread has four units side by side and heads are padded to fours of units.
    pub backward: bool,
    /// H.
    pub hidden: u32,
    /// Heads.
    pub heads: u32,
    /// Terms of the recurrent product: units of a head that a unit sees; 0 if there is none.
    pub terms: u32,
    /// Batch rows of a workgroup.
    pub rows: u32,
    /// Hidden units of a workgroup.
    pub units: u32,
    /// Threads of a workgroup.
    pub threads: u32,
}

impl Shares {
    /// Units of a head, with padding.
    fn head(&self) -> u32 {
        let units = self.hidden / self.heads;
        if self.backward { units.next_multiple_of(4) } else { units }
    }

    /// Units of a direction, with padding.
    pub fn padded(&self) -> u32 {
        self.heads * self.head()
    }

    /// Units that a thread computes at once.
    pub fn span(&self) -> u32 {
        if self.backward { 4 } else { 1 }
    }

    /// Threads that share the terms of a unit.
    pub fn shares(&self) -> u32 {
        self.threads * self.span() / self.units
    }

    /// Elements that hold a head's terms.
    pub fn items(&self) -> u32 {
        if self.backward { self.terms } else { self.terms.div_ceil(4) }
    }

    /// Elements of a head's terms that a thread multiplies, of all of them.
    pub fn turns(&self) -> u32 {
        self.items().div_ceil(self.shares())
    }

    /// Heads of a workgroup's units.
    fn heads_here(&self) -> u32 {
        if self.heads == 1 { 1 } else { self.heads.min((self.units - 1) / self.head() + 2) }
    }

    /// Elements of workgroup memory for partial sums.
    fn sums(&self) -> u32 {
        let shared = self.terms > 0 && (self.backward || self.shares() > 1);
        if shared { self.rows.min(4) * self.threads } else { 0 }
    }

    /// Elements of workgroup memory that one step takes if it has at most `most`: terms are staged in chunks.
    pub fn step_memory(&self, most: u32) -> u32 {
        let turn = self.rows * self.heads_here() * self.shares();
        let turns = (most / turn).clamp(1, self.turns().max(1));
        (if self.terms > 0 { turns * turn } else { 0 }).max(self.sums()).max(1)
    }

    /// Elements of workgroup memory that a step of a grid takes: it stages all terms at once.
    pub fn grid_memory(&self) -> u32 {
        self.step_memory(u32::MAX)
    }

    /// Elements of workgroup memory that a whole sequence takes in the kernel's `MEMORY`: forward, h has memory of its own.
    pub fn sequence_memory(&self) -> u32 {
        (if self.backward { self.states() + self.sums() } else { self.sums() }).max(1)
    }

    /// All elements of workgroup memory that a whole sequence takes.
    pub fn all_sequence_memory(&self) -> u32 {
        self.states() + self.sums() + 2
    }

    /// Elements that hold what a sequence hands from step to step.
    fn states(&self) -> u32 {
        self.rows * self.heads * self.turns() * self.shares()
    }

    /// True if the division covers what it must: every row and unit of a workgroup has a thread that computes its cell.
    pub fn holds(&self) -> bool {
        let Shares { heads, hidden, rows, units, threads, .. } = *self;
        let whole = heads > 0 && units > 0 && hidden.is_multiple_of(heads) && [1, 2, 4, 8].contains(&rows);
        whole
            && (threads * self.span()).is_multiple_of(units)
            && units.is_multiple_of(self.span())
            && rows * units <= threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_step_and_of_a_sequence() {
        let forward = Shares { backward: false, hidden: 512, heads: 1, terms: 512, rows: 8, units: 8, threads: 256 };
        assert_eq!((forward.shares(), forward.items(), forward.turns()), (32, 128, 4));
        assert_eq!(
            forward.step_memory(1024),
            1024,
            "all 128 fours of eight rows; as much as partial sums of four rows"
        );
        assert_eq!(forward.step_memory(300), 1024, "one turn of 32 fours at a time, but the partial sums need as much");
        let backward = Shares { backward: true, hidden: 30, heads: 3, terms: 10, rows: 2, units: 36, threads: 72 };
        assert_eq!((backward.padded(), backward.shares(), backward.turns()), (36, 8, 2));
        assert_eq!(backward.sequence_memory(), 2 * 3 * 16 + 2 * 72);
        assert!(forward.holds() && backward.holds());
        assert!(!Shares { rows: 3, ..forward }.holds() && !Shares { units: 64, ..forward }.holds());
    }
}
