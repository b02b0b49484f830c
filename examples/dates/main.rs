//! Writes dates as ISO 8601 does: "the 3rd of March 2021" is read, "2021-03-03" is written.
#![allow(dead_code)]

mod arguments;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod picture;

fn main() -> anyhow::Result<()> {
    let arguments: arguments::Arguments = common::arguments();
    arguments.check()?;
    let pairs = data::Pairs::new(arguments.pairs, arguments.held_out, arguments.seed)?;
    for pair in pairs.held_out.iter().take(30) {
        common::say!("{} = {}", pair.written, pair.iso);
    }
    Ok(())
}
