//! AMD's machine code, as RADV's compiler lists it.

use super::counts::{Counts, Flight};

/// Counters of a wave: vector loads arrive in order, scalar loads in any order.
const VECTOR: usize = 0;
const SCALAR: usize = 1;

/// The label that a branch goes to.
pub fn target(line: &str) -> Option<&str> {
    let branch = line.starts_with("s_branch") || line.starts_with("s_cbranch");
    branch.then(|| line.split_whitespace().nth(1)).flatten()
}

pub fn add(counts: &mut Counts, flight: &mut Flight, line: &str) {
    counts.all += 1;
    // Dual instructions of RDNA3 and later
    if let Some((first, second)) = line.split_once("::") {
        counts.dual += 1;
        for part in [first, second] {
            vector(counts, &part.split_whitespace().next().unwrap_or("").replace("v_dual_", "v_"));
        }
        return;
    }
    let name = line.split_whitespace().next().unwrap_or("");
    let dwords = |name: &str| match name {
        _ if name.ends_with("x16") || name.ends_with("b512") => 16,
        _ if name.ends_with("x8") || name.ends_with("b256") => 8,
        _ if name.ends_with("x4") || name.ends_with("b128") => 4,
        _ if name.ends_with("x3") || name.ends_with("b96") => 3,
        _ if name.ends_with("x2") || name.ends_with("b64") => 2,
        _ => 1usize,
    };
    let pair = |name: &str| name.contains("read2") || name.contains("write2") || name.contains("_2addr");
    let starts = |kinds: &[&str]| kinds.iter().any(|kind| name.starts_with(kind));
    match name {
        _ if starts(&["s_waitcnt_depctr", "s_wait_alu"]) => counts.hints += 1,
        _ if starts(&["s_waitcnt", "s_wait_"]) => {
            counts.waits += 1;
            let waits = waits(name, line);
            counts.drains += waits.iter().any(|&(_, left)| left == 0) as u32;
            waits.iter().for_each(|&(counter, left)| flight.wait(counter, left));
        }
        _ if starts(&["s_barrier"]) => counts.barriers += 1,
        _ if starts(&["s_branch", "s_cbranch"]) => counts.branches += 1,
        _ if starts(&["s_nop", "s_clause", "s_delay_alu", "s_inst_prefetch", "s_set_inst_prefetch", "s_sleep"]) => {
            counts.hints += 1
        }
        _ if starts(&["s_load_", "s_buffer_load_"]) => {
            let slot = [1, 2, 4, 8, 16].iter().position(|&size| size == dwords(name)).unwrap_or(2);
            counts.scalar_loads[slot] += 1;
            flight.issue(SCALAR);
        }
        _ if starts(&["s_"]) => counts.scalar += 1,
        _ if starts(&["buffer_load", "global_load", "flat_load", "scratch_load"]) => {
            counts.vector_loads[dwords(name).min(4) - 1] += 1;
            flight.issue(VECTOR);
        }
        _ if starts(&["buffer_store", "global_store", "flat_store", "scratch_store"]) => {
            counts.stores[dwords(name).min(4) - 1] += 1;
        }
        _ if starts(&["ds_read", "ds_load"]) => {
            counts.lds_reads[(dwords(name) * (1 + pair(name) as usize)).min(4) - 1] += 1;
        }
        _ if starts(&["ds_write", "ds_store"]) => {
            counts.lds_writes[(dwords(name) * (1 + pair(name) as usize)).min(4) - 1] += 1;
        }
        _ if starts(&["v_"]) => vector(counts, name),
        _ => counts.other += 1,
    }
}

/// The rest of each counter that a wait leaves: `s_waitcnt vmcnt(2) lgkmcnt(0)`, or `s_wait_loadcnt 0x2` of RDNA4.
fn waits(name: &str, line: &str) -> Vec<(usize, u32)> {
    let mut waits = Vec::new();
    for (counter, field) in [(VECTOR, "vmcnt("), (SCALAR, "lgkmcnt(")] {
        let left = line.split_once(field).and_then(|(_, rest)| rest.split_once(')'));
        if let Some(left) = left.and_then(|(number, _)| number.parse().ok()) {
            // Scalar loads share their counter with workgroup memory: only none left says that all have arrived.
            if counter == VECTOR || left == 0 {
                waits.push((counter, left));
            }
        }
    }
    if name.starts_with("s_wait_loadcnt") || name.starts_with("s_wait_kmcnt") {
        let number = line.split_whitespace().nth(1).unwrap_or("");
        let number = number.strip_prefix("0x").map_or(number.parse(), |digits| u32::from_str_radix(digits, 16));
        let counter = if name.contains("loadcnt") { VECTOR } else { SCALAR };
        // With the counter of workgroup memory, the low six bits are that one's, the next are the loads'.
        waits.extend(number.map(|left| (counter, if name.ends_with("_dscnt") { left >> 8 } else { left })));
    }
    waits
}

fn vector(counts: &mut Counts, name: &str) {
    let fused = ["v_fma", "v_mac_f", "v_mad_f", "v_madak", "v_madmk"];
    let mul = ["v_mul_f", "v_mul_legacy_f"];
    let add = ["v_add_f", "v_sub_f", "v_subrev_f"];
    if name.starts_with("v_pk_fma_f32") {
        counts.fma += 2;
    } else if fused.iter().any(|kind| name.starts_with(kind)) {
        counts.fma += 1;
    } else if name.starts_with("v_pk_mul_f32") {
        counts.mul += 2;
    } else if name.starts_with("v_pk_add_f32") {
        counts.add += 2;
    } else if mul.iter().any(|kind| name.starts_with(kind)) {
        counts.mul += 1;
    } else if add.iter().any(|kind| name.starts_with(kind)) {
        counts.add += 1;
    } else {
        counts.vector += 1;
        counts.moves += name.starts_with("v_mov_b32") as u32;
    }
}
