//! Intel's machine code, as ANV's compiler lists it. Its loads are all `send`, which the text does not tell apart.

use super::counts::Counts;

/// An instruction's name, such as `mad` of `(+f0.0) mad(16) ...`; `None` if the line is no instruction of Intel's.
pub fn name(line: &str) -> Option<&str> {
    let line = if line.starts_with('(') { line.split_once(") ")?.1.trim_start() } else { line };
    let (name, rest) = line.split_once('(')?;
    let plain = !name.is_empty()
        && name.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'.');
    (plain && rest.starts_with(|first: char| first.is_ascii_digit())).then(|| name.split('.').next().unwrap_or(name))
}

/// The label that the end of a loop goes to.
pub fn target(line: &str) -> Option<&str> {
    let mut words = (name(line) == Some("while")).then(|| line.split_whitespace())?.skip_while(|&word| word != "JIP:");
    words.nth(1)
}

pub fn add(counts: &mut Counts, line: &str) {
    let real = line.contains(">F ") || line.contains(">HF ");
    match name(line).unwrap_or("") {
        "mad" if real => counts.fma += 1,
        "mul" | "add" | "add3" if real => counts.float += 1,
        "send" | "sends" | "sendc" => counts.sends += 1,
        "while" | "break" | "cont" | "if" | "else" | "endif" | "jmpi" | "halt" => counts.branches += 1,
        "sync" | "wait" => counts.waits += 1,
        "nop" => counts.hints += 1,
        name => {
            counts.vector += 1;
            counts.moves += (name == "mov") as u32;
        }
    }
}
