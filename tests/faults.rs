//! `docs/faults.md` tells the truth: every one of the 72 fault cases has a row, every test and story that a row
//! names is there, and every test and story that claims a case is in the row of that case.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const TABLE: &str = include_str!("../docs/faults.md");
const CASES: u8 = 72;
/// Where stories lie; each says by `faults: [7, 41]` what it shows.
const STORIES: [&str; 2] = ["tests/e2e/stories", "tests/sim/stories"];

/// What there is: for each test `path::name` or story `path`, the cases that it claims.
type Claims = BTreeMap<String, BTreeSet<u8>>;

/// Each row: number, and what its last column names. A row that is open names nothing and says why.
fn rows(table: &str) -> Vec<(u8, Vec<String>, Option<String>)> {
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(number) = cells.first().and_then(|cell| cell.parse().ok()) else { continue };
        let last = cells.last().copied().unwrap_or_default();
        let open = last.strip_prefix("open:").map(|why| why.trim().to_owned());
        let named = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        rows.push((number, named, open));
    }
    rows
}

/// Everything that is wrong with a table.
fn wrong(table: &str, claims: &Claims) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows = rows(table);
    let numbers: Vec<u8> = rows.iter().map(|(number, ..)| *number).collect();
    if numbers != (1..=CASES).collect::<Vec<_>>() {
        wrong.push(format!("the rows are not 1 to {CASES} in order: {numbers:?}"));
    }
    for (number, named, open) in &rows {
        match open {
            Some(why) if why.len() < 10 => wrong.push(format!("case {number} is open without a reason")),
            None if named.is_empty() => wrong.push(format!("case {number} names no test and is not open")),
            _ => {}
        }
        for name in named {
            match claims.get(name) {
                None => wrong.push(format!("case {number}: there is no {name}")),
                Some(claimed) if !claimed.contains(number) => {
                    wrong.push(format!("case {number}: {name} does not claim it"));
                }
                Some(_) => {}
            }
        }
    }
    for (name, claimed) in claims {
        for case in claimed {
            if !rows.iter().any(|(number, named, _)| number == case && named.contains(name)) {
                wrong.push(format!("{name} shows case {case}, and its row does not say so"));
            }
        }
    }
    wrong
}

/// Tests named `fault_NN_…` in one source file.
fn tests_of(path: &str, text: &str) -> Claims {
    let mut claims = Claims::new();
    for line in text.lines() {
        let code = line.trim_start();
        let Some((_, rest)) = code.split_once("fn fault_").filter(|(before, _)| !before.contains("//")) else {
            continue;
        };
        let name = rest.split('(').next().unwrap_or_default();
        let Some(case) = name.split('_').next().and_then(|digits| digits.parse().ok()) else { continue };
        claims.insert(format!("{path}::fault_{name}"), BTreeSet::from([case]));
    }
    claims
}

/// The cases that a story claims.
fn cases_of(text: &str) -> BTreeSet<u8> {
    let list = text.lines().find_map(|line| line.strip_prefix("faults:"));
    let numbers = list.unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    numbers.filter(|n| !n.is_empty()).map(|n| n.parse().unwrap_or(0)).collect()
}

fn files(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            files(&path, found);
        } else {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            found.push(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
        }
    }
}

fn claims() -> Claims {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    ["src", "tests"].iter().for_each(|folder| files(&root.join(folder), &mut found));
    let read = |file: &String| fs::read_to_string(root.join(file)).expect("a readable file");
    let mut claims = Claims::new();
    for file in found.iter().filter(|f| f.ends_with(".rs") && !f.ends_with("tests/faults.rs")) {
        claims.extend(tests_of(file, &read(file)));
    }
    for file in found.iter().filter(|f| f.ends_with(".yaml") && STORIES.iter().any(|folder| f.starts_with(folder))) {
        claims.insert(file.clone(), cases_of(&read(file)));
    }
    claims
}

#[test]
fn the_table_of_fault_cases_is_true() {
    let claims = claims();
    assert!(claims.len() > 60, "tests and stories were not found");
    let wrong = wrong(TABLE, &claims);
    assert!(wrong.is_empty(), "docs/faults.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_fault_of_a_table_is_seen() {
    let good: String = (1..=CASES).map(|n| format!("| {n} | x | unit | `src/a.rs::fault_{n:02}_x` |\n")).collect();
    let text: String = (1..=CASES).map(|n| format!("    async fn fault_{n:02}_x() {{\n")).collect();
    let claims = tests_of("src/a.rs", &text);
    assert_eq!(wrong(&good, &claims), [""; 0]);
    let said = |table: String, claims: &Claims| wrong(&table, claims).join("; ");
    assert!(said(good.replace("| 7 | x", "| 8 | x"), &claims).contains("not 1 to 72 in order"));
    assert!(
        said(good.replace("`src/a.rs::fault_07_x`", "`src/a.rs::gone`"), &claims)
            .contains("there is no src/a.rs::gone")
    );
    assert!(said(good.replace("`src/a.rs::fault_07_x`", "later"), &claims).contains("case 7 names no test"));
    assert!(said(good.replace("`src/a.rs::fault_07_x`", "open: x"), &claims).contains("open without a reason"));
    assert!(
        said(good.replace("fault_07_x", "fault_08_x"), &claims)
            .contains("case 7: src/a.rs::fault_08_x does not claim it")
    );
    let mut more = claims;
    more.insert("tests/sim/stories/x.yaml".into(), cases_of("description: x\nfaults: [7, 41]\n"));
    assert!(said(good, &more).contains("tests/sim/stories/x.yaml shows case 41, and its row does not say so"));
}
