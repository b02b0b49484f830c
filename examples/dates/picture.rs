//! The picture: what the decoder attends to as it writes each character.

use anyhow::{Result, anyhow};
use ndarray::ArrayView2;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const INK: RGBColor = RGBColor(40, 50, 65);
const ATTENTION: RGBColor = RGBColor(224, 99, 30);

/// Pixels of a character and of the margins.
const CELL: i32 = 26;
const MARGIN: i32 = 44;
const TITLE: i32 = 40;

/// The least weight that is drawn.
const FAINTEST: f32 = 0.01;

/// The SVG of a map of attention: a row for each character that was written, a column for each that was read.
pub fn draw(read: &str, written: &str, weights: ArrayView2<f32>) -> Result<String> {
    let [read, written]: [Vec<char>; 2] = [read.chars().collect(), written.chars().collect()];
    let size = (2 * MARGIN + CELL * read.len() as i32, TITLE + 2 * MARGIN + CELL * written.len() as i32);
    let mut picture = String::new();
    let area = SVGBackend::with_string(&mut picture, (size.0.max(420) as u32, size.1 as u32)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw the attention: {error}");
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let centred = |size: i32| ("monospace", size).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
    let title = ("sans-serif", 18).into_font().color(&INK);
    let label =
        |text: &str, style: &TextStyle, at: (i32, i32)| area.draw_text(text, style, at).map_err(|error| failed(&error));
    label("attention of each character written to those read", &title, (14, 14))?;
    let (left, top) = (MARGIN, TITLE + MARGIN);
    let (right, bottom) = (left + CELL * read.len() as i32, top + CELL * written.len() as i32);
    let line = |from, to| area.draw(&PathElement::new([from, to], INK.mix(0.12))).map_err(|error| failed(&error));
    (0..=read.len() as i32).try_for_each(|k| line((left + k * CELL, top), (left + k * CELL, bottom)))?;
    (0..=written.len() as i32).try_for_each(|k| line((left, top + k * CELL), (right, top + k * CELL)))?;
    let middle = |k: usize| k as i32 * CELL + CELL / 2;
    for (column, character) in read.iter().enumerate() {
        label(&character.to_string(), &centred(18), (left + middle(column), top - CELL / 2))?;
    }
    for (row, character) in written.iter().enumerate() {
        label(&character.to_string(), &centred(18), (left - CELL / 2, top + middle(row)))?;
        for column in 0..read.len() {
            let weight = weights.get([row, column]).copied().unwrap_or(0.0);
            let (x, y) = (left + column as i32 * CELL, top + row as i32 * CELL);
            let corners = [(x, y), (x + CELL - 1, y + CELL - 1)];
            let colour = ATTENTION.mix(f64::from(weight.clamp(0.0, 1.0))).filled();
            if weight >= FAINTEST {
                area.draw(&Rectangle::new(corners, colour)).map_err(|error| failed(&error))?;
            }
        }
    }
    area.present().map_err(|error| failed(&error))?;
    drop(area);
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn every_weight_has_a_cell() {
        let picture = draw("3 May", "05", Array2::from_elem((2, 5), 0.2).view()).unwrap();
        assert!(picture.starts_with("<svg") && picture.matches("<rect").count() > 2 * 5, "{picture}");
    }
}
