//! The README's table is the one of `docs/forecast.json`.

use serde_json::Value;

#[test]
fn the_table_is_that_of_the_committed_run() {
    let report: Value = serde_json::from_str(include_str!("../docs/forecast.json")).unwrap();
    let mut lines = vec![];
    let horizon = report["horizon"].as_u64().unwrap() as usize;
    let heads: Vec<String> = (1..=horizon).map(|ahead| format!("+{ahead}")).collect();
    lines.push(format!("| | {} | average |", heads.join(" | ")));
    lines.push(format!("|---|{}---|", "---|".repeat(horizon)));
    for scores in report["scores"].as_array().unwrap() {
        let cells: Vec<String> =
            scores["rmse"].as_array().unwrap().iter().map(|value| format!("{:.2}", value.as_f64().unwrap())).collect();
        let (name, average) = (scores["name"].as_str().unwrap(), scores["rmse_average"].as_f64().unwrap());
        lines.push(format!("| {name} | {} | {average:.2} |", cells.join(" | ")));
    }
    let table = lines.join("\n");
    assert!(include_str!("../README.md").contains(&table), "the README should have\n{table}");
}
