//! Intel's machine code, as ANV's compiler lists it:
//!
//! ```text
//! send(16)        g1UD            g94UD           nullUD          0x64803500                0x03000000
//!                             ugm MsgDesc: ( load, a32, d32, V4, L1STATE_L3MOCS dst_len = 8 bti )  BTI 3 { align1 1H $4 };
//! mad(16)         g39<1>F         g37<8,8,1>F     g105.0<0,1,0>F  g1<1,1,1>F { align1 1H $4.dst };
//! ```
//!
//! Loads and stores are messages, whose second line says what they are. `$4` is the message's scoreboard, `$4.dst` a wait for what it
//! brings.

use super::counts::{Counts, Flight};

/// An instruction's name, such as `mad` of `(+f0.0) mad(16) ...`; `None` if the line is no instruction of Intel's.
pub fn name(line: &str) -> Option<&str> {
    let line = if line.starts_with('(') { line.split_once(") ")?.1.trim_start() } else { line };
    let (name, rest) = line.split_once('(')?;
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'.' || letter == b' ');
    let name = name.split(['.', ' ']).next().unwrap_or(name);
    (plain && rest.starts_with(|first: char| first.is_ascii_digit())).then_some(name)
}

/// True for the second line of a message.
pub fn is_message(line: &str) -> bool {
    line.contains("MsgDesc: (")
}

/// The label that the end of a loop goes to.
pub fn target(line: &str) -> Option<&str> {
    let mut words = (name(line) == Some("while")).then(|| line.split_whitespace())?.skip_while(|&word| word != "JIP:");
    words.nth(1)
}

pub fn add(counts: &mut Counts, flight: &mut Flight, line: &str) {
    // Scoreboards that the line names, and whether it waits for what they bring.
    let scoreboards = line.split(['{', ' ']).filter_map(|word| word.strip_prefix('$'));
    let mut of_message = None;
    for scoreboard in scoreboards {
        match scoreboard.split_once('.') {
            Some((number, "dst")) => {
                let before = flight.now();
                number.parse().into_iter().for_each(|number| flight.wait(number, 0));
                counts.waits += (flight.now() < before) as u32;
                counts.drains += (before > 0 && flight.now() == 0) as u32;
            }
            Some(_) => {}
            None => of_message = scoreboard.parse().ok(),
        }
    }
    if is_message(line) {
        message(counts, flight, line, of_message.unwrap_or(0));
        return;
    }
    counts.all += 1;
    let real = line.contains(">F ") || line.contains(">HF ");
    match name(line).unwrap_or("") {
        "mad" if real => counts.fma += 1,
        "mul" if real => counts.mul += 1,
        "add" | "add3" if real => counts.add += 1,
        "send" | "sends" | "sendc" => counts.sends += 1,
        "while" | "break" | "cont" | "if" | "else" | "endif" | "jmpi" | "halt" => counts.branches += 1,
        "sync" | "wait" | "nop" => counts.hints += 1,
        name => {
            counts.vector += 1;
            counts.moves += (name == "mov") as u32;
        }
    }
}

/// A load or store of V1 to V4 dwords a lane, or of V1 to V64 a wave if it is transposed.
fn message(counts: &mut Counts, flight: &mut Flight, line: &str, scoreboard: usize) {
    let (unit, rest) = line.trim().split_once(" MsgDesc: (").unwrap_or_default();
    let mut words = rest.split([',', ' ']).filter(|word| !word.is_empty());
    let operation = words.next().unwrap_or("");
    let dwords = words.find_map(|word| word.strip_prefix('V')?.parse::<usize>().ok()).unwrap_or(1);
    let lane = dwords.clamp(1, 4) - 1;
    match (unit, operation) {
        ("slm", "load") => counts.lds_reads[lane] += 1,
        ("slm", "store") => counts.lds_writes[lane] += 1,
        ("ugm", "load") => {
            if line.contains("transpose") {
                counts.scalar_loads[[1, 2, 4, 8].iter().position(|&size| size >= dwords).unwrap_or(4)] += 1;
            } else {
                counts.vector_loads[lane] += 1;
            }
            flight.issue(scoreboard);
        }
        ("ugm", "store") => counts.stores[lane] += 1,
        ("gateway", _) if rest.contains("barrier") => counts.barriers += 1,
        _ => {}
    }
}
