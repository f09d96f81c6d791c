//! Pure. What is wrong with a file: where, what, why, and what to do.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file as the user named it, or `environment`.
    pub file: String,
    /// Line, from 1; 0 when there is none.
    pub line: u64,
    /// Column in characters, from 1; 0 when there is none.
    pub column: u64,
    /// What is wrong, and why.
    pub message: String,
    /// What to do; empty when the message says it all.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, ": {}", self.hint)?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the file. `Display` writes one fault a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A single fault that has no place in a file.
    pub fn one(file: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(vec![Fault { file: file.into(), line: 0, column: 0, message: message.into(), hint: hint.into() }])
    }

    /// `Ok` when nothing is wrong, else the faults in order of place, each once.
    ///
    /// # Errors
    /// The faults.
    pub fn into_result(mut self) -> Result<(), Self> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        self.0.dedup();
        Err(self)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The candidate nearest to what was written, if it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let allowed = written.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|c| (distance(&written, &c.to_lowercase(), allowed), c))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// `did you mean "max"?`, or what there is to choose from.
pub(crate) fn suggestion(written: &str, candidates: &[&str]) -> String {
    match nearest(written, candidates.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if candidates.is_empty() => "nothing may stand here".into(),
        None => format!("known here: {}", candidates.join(", ")),
    }
}

/// Edit distance with neighbouring swaps (optimal string alignment); more than `most` may be returned as `most + 1`.
fn distance(a: &str, b: &str, most: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_recognised() {
        let keys = ["max", "maxIncrease", "quantile", "floor", "mode", "watch"];
        for (written, meant) in [
            ("maxx", Some("max")),
            ("mdoe", Some("mode")),
            ("Watch", Some("watch")),
            ("maxincrease", Some("maxIncrease")),
            ("max_increase", Some("maxIncrease")),
            ("quantil", Some("quantile")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, keys), meant, "{written}");
        }
        assert_eq!(distance("kitten", "sitting", 9), 3);
    }

    #[test]
    fn a_fault_reads_like_a_compiler_message() {
        let fault = Fault {
            file: "thresholds.yaml".into(),
            line: 12,
            column: 5,
            message: "unknown key \"maxx\"".into(),
            hint: "did you mean \"max\"?".into(),
        };
        assert_eq!(fault.to_string(), "thresholds.yaml:12:5: unknown key \"maxx\": did you mean \"max\"?");
    }
}
