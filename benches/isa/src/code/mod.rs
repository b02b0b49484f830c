//! Loops of machine code and their instructions, from the listings that drivers give: AMD's by RADV, NVIDIA's by NVK and Intel's by
//! ANV.

mod amd;
mod counts;
mod intel;
mod nvidia;

pub use counts::Counts;
use counts::Flight;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A loop, or code outside all loops.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Its blocks as the driver names them.
    pub first: String,
    pub last: String,
    /// Loops around it.
    pub depth: u32,
    /// True if it is a loop that holds no other.
    pub innermost: bool,
    /// Its own instructions, without those of loops in it.
    pub counts: Counts,
    /// Instructions of its longest stretch without a wait.
    pub longest_run: u32,
    /// The most loads from storage in flight at any time. Two iterations are looked at, since a loop may begin an iteration's
    /// loads in the one before.
    pub loads_in_flight: u32,
}

/// Whose listing a text is.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Amd,
    Intel,
    Nvidia,
}

/// An instruction without its encoding, and its block.
struct Line<'a> {
    block: usize,
    code: &'a str,
}

/// A listing, cut into lines and blocks.
struct Listing<'a> {
    maker: Maker,
    /// Labels in the order of the code.
    blocks: Vec<&'a str>,
    /// Blocks from which each is reached, where the listing says so (NVIDIA's).
    before: Vec<Vec<usize>>,
    lines: Vec<Line<'a>>,
}

/// Lines of a loop, in order.
type Lines = Vec<usize>;

impl<'a> Listing<'a> {
    fn new(text: &'a str) -> Listing<'a> {
        // Intel's text indents what does not fit in a line, of which only messages are wanted.
        let nvidia = nvidia::is_listing(text);
        let kept = || text.lines().filter(|line| nvidia || !line.starts_with("  ") || intel::is_message(line));
        let maker = if nvidia {
            Maker::Nvidia
        } else if kept().any(|line| intel::name(line.trim()).is_some()) {
            Maker::Intel
        } else {
            Maker::Amd
        };
        let mut listing = Listing { maker, blocks: vec!["start"], before: vec![Vec::new()], lines: Vec::new() };
        for line in kept() {
            let code = if maker == Maker::Nvidia {
                match nvidia::line(line) {
                    nvidia::Text::Block { label, before } => {
                        listing.blocks.push(label);
                        // Its blocks are numbered from 0, ours have the start in front.
                        listing.before.push(before.into_iter().map(|number| number + 1).collect());
                        continue;
                    }
                    nvidia::Text::Instruction(code) => code,
                    nvidia::Text::Other => continue,
                }
            } else {
                line.split(';').next().unwrap_or("").trim()
            };
            match code.strip_suffix(':') {
                Some(label) if label.starts_with("BB") || label.starts_with('L') => listing.blocks.push(label),
                _ if code.is_empty() || code.starts_with("//") => {}
                _ => listing.lines.push(Line { block: listing.blocks.len() - 1, code }),
            }
        }
        listing
    }

    fn add(&self, counts: &mut Counts, flight: &mut Flight, code: &str) {
        match self.maker {
            Maker::Amd => amd::add(counts, flight, code),
            Maker::Intel => intel::add(counts, flight, code),
            Maker::Nvidia => nvidia::add(counts, flight, code),
        }
    }

    fn loops(&self) -> Vec<Lines> {
        if self.maker == Maker::Nvidia { self.natural_loops() } else { self.contiguous_loops() }
    }

    /// Loops of code that lies together: from a block to the last branch back to it.
    fn contiguous_loops(&self) -> Vec<Lines> {
        let mut back: Vec<(usize, usize)> = Vec::new();
        for (at, line) in self.lines.iter().enumerate() {
            let target = if self.maker == Maker::Amd { amd::target(line.code) } else { intel::target(line.code) };
            let Some(block) = target.and_then(|target| self.blocks.iter().position(|&label| label == target)) else {
                continue;
            };
            let Some(start) = self.lines.iter().position(|line| line.block >= block) else { continue };
            if start <= at {
                match back.iter_mut().find(|(known, _)| *known == start) {
                    Some((_, end)) => *end = at.max(*end),
                    None => back.push((start, at)),
                }
            }
        }
        back.into_iter().map(|(first, last)| (first..=last).collect()).collect()
    }

    /// Loops by the edges between blocks, which NVIDIA's compiler does not lay out together: for each edge back to a block on the
    /// way to it, the blocks from which the edge is reached without that block.
    fn natural_loops(&self) -> Vec<Lines> {
        let blocks = self.blocks.len();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); blocks];
        for (block, before) in self.before.iter().enumerate() {
            before.iter().filter(|&&from| from < blocks).for_each(|&from| after[from].push(block));
        }
        let mut bodies: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new(); // by the loop's first block
        let (mut seen, mut on_way) = (vec![false; blocks], vec![false; blocks]);
        let mut way: Vec<(usize, usize)> = Vec::new(); // blocks, and how many of their edges were followed
        if blocks > 1 {
            (seen[1], on_way[1]) = (true, true);
            way.push((1, 0));
        }
        while let Some((block, edge)) = way.last_mut() {
            let Some(&next) = after[*block].get(*edge) else {
                on_way[*block] = false;
                way.pop();
                continue;
            };
            *edge += 1;
            if on_way[next] {
                let body = bodies.entry(next).or_insert_with(|| BTreeSet::from([next]));
                let mut left = vec![*block];
                while let Some(block) = left.pop() {
                    if body.insert(block) {
                        left.extend(&self.before[block]);
                    }
                }
            } else if !seen[next] {
                (seen[next], on_way[next]) = (true, true);
                way.push((next, 0));
            }
        }
        let lines = |body: BTreeSet<usize>| -> Lines {
            (0..self.lines.len()).filter(|&at| body.contains(&self.lines[at].block)).collect()
        };
        bodies.into_values().map(lines).filter(|lines| !lines.is_empty()).collect()
    }

    /// The lines of `range` that are in none of the loops `inner`.
    fn piece(&self, range: &[usize], inner: &[&Lines], around: usize) -> Piece {
        let mut counts = Counts::default();
        let mut flight = Flight::default();
        let (mut run, mut longest_run) = (0, 0);
        for iteration in 0..2 {
            let mut unused = Counts::default();
            for &at in range {
                if inner.iter().any(|inner| inner.binary_search(&at).is_ok()) {
                    run = 0;
                    continue;
                }
                let counts = if iteration == 0 { &mut counts } else { &mut unused };
                let before = counts.waits;
                self.add(counts, &mut flight, self.lines[at].code);
                run = if counts.waits > before { 0 } else { run + 1 };
                if iteration == 0 {
                    longest_run = longest_run.max(run);
                }
            }
        }
        let label = |at: Option<&usize>| at.map_or("", |&at| self.blocks[self.lines[at].block]).to_string();
        Piece {
            first: label(range.first()),
            last: label(range.last()),
            depth: around as u32,
            innermost: false,
            counts,
            longest_run,
            loads_in_flight: flight.most,
        }
    }
}

fn holds(outer: &Lines, inner: &Lines) -> bool {
    outer.len() > inner.len() && inner.iter().all(|at| outer.binary_search(at).is_ok())
}

/// Loops of a listing.
pub fn loops(text: &str) -> Vec<Piece> {
    let listing = Listing::new(text);
    let all = listing.loops();
    all.iter()
        .map(|one| {
            let inner: Vec<&Lines> = all.iter().filter(|other| holds(one, other)).collect();
            let around = all.iter().filter(|other| holds(other, one)).count();
            Piece { innermost: inner.is_empty(), ..listing.piece(one, &inner, around) }
        })
        .collect()
}

/// Code outside all loops; `None` for an empty listing.
pub fn straight(text: &str) -> Option<Piece> {
    let listing = Listing::new(text);
    let all: Lines = (0..listing.lines.len()).collect();
    let loops = listing.loops();
    (!all.is_empty()).then(|| listing.piece(&all, &loops.iter().collect::<Vec<_>>(), 0))
}

/// Instructions of the whole listing.
pub fn whole(text: &str) -> Counts {
    let listing = Listing::new(text);
    let (mut counts, mut flight) = (Counts::default(), Flight::default());
    listing.lines.iter().for_each(|line| listing.add(&mut counts, &mut flight, line.code));
    counts
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let c = &self.counts;
        write!(
            f,
            "{} {}..{} depth {}: {} instructions, {} fma ({:.0}%), {} dual, {} mul, {} add, {} other vector ({} moves), \
             {} scalar; loads x1 x2 x3 x4 {:?}, scalar loads x1 x2 x4 x8 x16 {:?}, at most {} in flight, stores {:?}, \
             lds reads {:?} writes {:?}; {} waits ({} drain), longest run without {}, {} barriers, {} branches, {} hints, \
             {} sends, {} other; {:.2} B/MAC by lanes, {:.2} B/MAC by waves, {:.2} lds B/MAC",
            if self.innermost { "innermost" } else { "around" },
            self.first,
            self.last,
            self.depth,
            c.all,
            c.fma,
            c.fma_share(),
            c.dual,
            c.mul,
            c.add,
            c.vector,
            c.moves,
            c.scalar,
            c.vector_loads,
            c.scalar_loads,
            self.loads_in_flight,
            c.stores,
            c.lds_reads,
            c.lds_writes,
            c.waits,
            c.drains,
            self.longest_run,
            c.barriers,
            c.branches,
            c.hints,
            c.sends,
            c.other,
            c.lane_bytes() as f64 / c.macs().max(1) as f64,
            c.wave_bytes() as f64 / c.macs().max(1) as f64,
            c.lds_bytes() as f64 / c.macs().max(1) as f64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMD: &str = "\
BB0:
\ts_mov_b32 s0, 0 ; be800380
BB1:
\tbuffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen ; e0381000
\ts_buffer_load_dwordx8 s[8:15], s[0:3], s4 ; f42c0200
\ts_waitcnt vmcnt(0) lgkmcnt(0) ; bf8c0070
BB2:
\tv_fmac_f32_e32 v5, v0, v1 ; 560a0300
\tv_dual_fmac_f32 v5, v0, v1 :: v_dual_mul_f32 v6, v2, v3 ; c8000000
\tds_read2_b64 v[0:3], v4 offset1:1 ; d8000000
\ts_cbranch_scc1 BB2 ; bf85ffff
\ts_cbranch_scc1 BB1 ; bf85ffff
BB3:
\ts_endpgm ; bf810000
";

    #[test]
    fn loops_count_their_own_instructions() {
        let found = loops(AMD);
        let [outer, inner] = &found[..] else { panic!("{} loops", found.len()) };
        let (outer, inner) = if outer.first == "BB1" { (outer, inner) } else { (inner, outer) };
        assert_eq!((outer.first.as_str(), outer.depth, outer.innermost, outer.counts.all), ("BB1", 0, false, 4));
        assert_eq!(outer.loads_in_flight, 2);
        let counts = &inner.counts;
        assert_eq!((inner.first.as_str(), inner.depth, inner.innermost), ("BB2", 1, true));
        assert_eq!((counts.all, counts.fma, counts.mul, counts.dual, counts.branches), (4, 2, 1, 1, 1));
        assert_eq!(counts.lds_reads, [0, 0, 0, 1]);
        assert_eq!(straight(AMD).unwrap().counts.all, 2);
    }

    #[test]
    fn loads_that_begin_an_iteration_early_are_in_flight_together() {
        let two = |wait: &str| {
            let text = format!(
                "BB1:\n buffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen\n buffer_load_dwordx4 v[4:7], v4, s[0:3], 0 offen\n \
                 {wait}\n v_fmac_f32_e32 v5, v0, v1\n s_cbranch_scc1 BB1\n"
            );
            loops(&text)[0].loads_in_flight
        };
        assert_eq!(two("s_waitcnt vmcnt(0)"), 2);
        assert_eq!(two("s_waitcnt vmcnt(2)"), 4);
        assert_eq!(two("s_wait_loadcnt 0x1"), 3);
    }

    #[test]
    fn intel_loops_count_too() {
        let found = loops(
            "LABEL1:\nLABEL0:\n\
             send(16) g1UD g2UD nullUD 0x6480f502 0x04000000\n      \
             ugm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 8, bti )  BTI 3 { align1 1H $4 };\n\
             sync nop(1) null<0,1,0>UB { align1 WE_all 1N $3.src };\n\
             mad(16) g92<1>F g41<8,8,1>F g3<8,8,1>F { align1 1H $4.dst };\n\
             (+f0.0) break(16) JIP: LABEL2 UIP: LABEL2\nLABEL2:\nwhile(16)       JIP:  LABEL0 { align1 1H };\n",
        );
        assert_eq!(found.len(), 1);
        let counts = &found[0].counts;
        assert_eq!((counts.all, counts.fma, counts.sends, counts.branches), (5, 1, 1, 2));
        assert_eq!((counts.vector_loads, counts.waits, counts.drains), ([0, 0, 0, 1], 1, 1));
        assert_eq!(found[0].loads_in_flight, 1);
    }

    #[test]
    fn nvidia_loops_count_too() {
        // The loop's second block lies behind the code after the loop.
        let listing = "\
block.u 0 L1 [] -> {
      ur0     = ldc.b32 c[0x1][+0x0]                       // delay=12 wr:1
} -> [1]
block 1 L13 [0, 3] -> {
      r4      = ld.global.a64.constant.b128 [r10..12]      // delay=5 wr:0
      r8      = ld.shared.a32.b64 [r2]                     // delay=5 wr:1
@!p0            bra L4                                     // delay=1
} -> [2, 3]
block 2 L3 [1] -> {
                exit                                       // delay=1
} -> []
block 3 L4 [1] -> {
      r11     = ffma.ftz r4 r8 r11                         // delay=6 wt=000001
      ur1     = iadd3 ur1 0xffffffff rZ                    // delay=12
                bra L13                                    // delay=1
} -> [1]
";
        let found = loops(listing);
        assert_eq!(found.len(), 1);
        let counts = &found[0].counts;
        assert_eq!((found[0].first.as_str(), counts.all, counts.fma, counts.branches), ("L13", 6, 1, 2));
        assert_eq!((counts.vector_loads, counts.lds_reads, counts.scalar), ([0, 0, 0, 1], [0, 1, 0, 0], 1));
        assert_eq!((counts.waits, counts.drains, found[0].loads_in_flight), (1, 1, 1));
        assert_eq!(straight(listing).unwrap().counts.scalar_loads[0], 1);
    }

    #[test]
    fn loads_count_by_width() {
        let counts = whole(AMD);
        assert_eq!((counts.vector_loads, counts.scalar_loads), ([0, 0, 0, 1], [0, 0, 0, 1, 0]));
        assert_eq!((counts.lane_bytes(), counts.wave_bytes()), (16, 32));
        assert_eq!((counts.waits, counts.drains), (1, 1));
    }
}
