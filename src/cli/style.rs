//! How text looks on a terminal: colour where it is wanted, aligned columns, human times.
//! Colour is never the only sign of anything, and nothing that comes from the cluster can send
//! control characters to the terminal.

use crate::domain::Seconds;
use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    colour: bool,
    unicode: bool,
}

/// Colours with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Good news.
    Green,
    /// Needs a look.
    Yellow,
    /// Bad news.
    Red,
    /// Less important.
    Dim,
    /// Headings.
    Bold,
}

/// A sign in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `√`
    Good,
    /// `‼`
    Warning,
    /// `×`
    Bad,
}

impl Style {
    /// Neither colour nor anything beyond ASCII: for files and tests.
    pub const PLAIN: Style = Style { colour: false, unicode: false };

    /// What standard output can show.
    pub fn of_stdout() -> Self {
        Self::decide(io::stdout().is_terminal(), |name| std::env::var(name).ok())
    }

    /// What standard error can show.
    pub fn of_stderr() -> Self {
        Self::decide(io::stderr().is_terminal(), |name| std::env::var(name).ok())
    }

    /// Decides by the usual variables: `NO_COLOR` forbids colour, `CLICOLOR_FORCE` asks for it
    /// anywhere, else it needs a terminal that is not `dumb`. Signs beyond ASCII need a UTF-8 locale.
    pub fn decide(terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty());
        let forced = set("CLICOLOR_FORCE").is_some_and(|v| v != "0");
        let smart = terminal && set("TERM").is_none_or(|term| term != "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        Self {
            colour: set("NO_COLOR").is_none() && (forced || smart),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// The same without colour, for `--no-color`.
    pub fn without_colour(self) -> Self {
        Self { colour: false, ..self }
    }

    /// The text in a colour, if there is colour.
    pub fn paint<'a>(&self, colour: Colour, text: &'a str) -> Cow<'a, str> {
        if !self.colour || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Dim => "2",
            Colour::Bold => "1",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }

    /// A sign in its colour; `+`, `!` and `x` where only ASCII can be shown.
    pub fn mark(&self, mark: Mark) -> Cow<'static, str> {
        let (sign, ascii, colour) = match mark {
            Mark::Good => ("√", "+", Colour::Green),
            Mark::Warning => ("‼", "!", Colour::Yellow),
            Mark::Bad => ("×", "x", Colour::Red),
        };
        self.paint(colour, if self.unicode { sign } else { ascii })
    }
}

/// A text without control characters, on one line: what a terminal may be given of foreign text.
pub fn printable(text: &str) -> Cow<'_, str> {
    // Bidirectional marks can make a line read differently from what it says.
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if odd(c) { ' ' } else { c }).collect())
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A cell in a colour.
    pub fn coloured(colour: Colour, text: impl Into<String>) -> Self {
        Self { colour: Some(colour), ..Self::from(text.into()) }
    }
}

impl From<String> for Cell {
    /// Control characters become spaces, and nothing becomes `-`.
    fn from(text: String) -> Self {
        let text = if text.is_empty() { "-".to_owned() } else { printable(&text).into_owned() };
        Self { text, colour: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

/// Rows in aligned columns, three spaces apart, as kubectl prints them.
#[derive(Debug, Clone, Default)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings, in capitals by custom.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the headings are left out, and missing ones stay empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<Cell>>) {
        self.rows.push(cells.into_iter().map(Into::into).take(self.header.len()).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, with headings unless `headings` is off.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn print(&self, out: &mut dyn Write, style: Style, headings: bool) -> io::Result<()> {
        let mut widths: Vec<usize> = self.header.iter().map(|h| if headings { h.chars().count() } else { 0 }).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = (&str, Option<Colour>)>| {
            let (mut line, mut gap) = (String::new(), 0);
            for (width, (text, colour)) in widths.iter().zip(cells) {
                line.extend(std::iter::repeat_n(' ', gap));
                line.push_str(&colour.map_or(Cow::Borrowed(text), |c| style.paint(c, text)));
                gap = width.saturating_sub(text.chars().count()) + 3;
            }
            line
        };
        if headings {
            writeln!(out, "{}", line(&mut self.header.iter().map(|h| (*h, None))))?;
        }
        for row in &self.rows {
            writeln!(out, "{}", line(&mut row.iter().map(|c| (c.text.as_str(), c.colour))))?;
        }
        Ok(())
    }
}

/// A span of time as kubectl shows an age: `45s`, `5m30s`, `170m`, `5h30m`, `30h`, `3d4h`, `300d`, `2y30d`.
/// Negative spans, which clocks that disagree can make, are `0s`; what is no number is `?`.
pub fn age(seconds: Seconds) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let s = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86400);
    let two = |big: u64, unit: &str, small: u64, rest: &str| {
        let mut text = format!("{big}{unit}");
        if small > 0 {
            let _ = write!(text, "{small}{rest}");
        }
        text
    };
    match s {
        0..120 => format!("{s}s"),
        120..600 => two(minutes, "m", s % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

/// A share of one as a percentage with as many digits as matter: `5 %`, `8.1 %`, `0.05 %`.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if !p.is_finite() {
        return "?".into();
    }
    let digits =
        if p == 0.0 || p.abs() >= 10.0 { 1 } else { (1 - p.abs().log10().floor() as i32).clamp(1, 6) as usize };
    let text = format!("{p:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(terminal: bool, env: &[(&str, &str)]) -> Style {
        Style::decide(terminal, |name| env.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        for (terminal, env, colour) in [
            (true, &[][..], true),
            (true, &[("TERM", "xterm-256color")], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            assert_eq!(style(terminal, env).colour, colour, "{terminal} {env:?}");
        }
        assert_eq!(style(true, &[]).without_colour().paint(Colour::Red, "x"), "x");
    }

    #[test]
    fn marks_fall_back_to_ascii() {
        let marks = |s: Style| [Mark::Good, Mark::Warning, Mark::Bad].map(|m| s.mark(m).into_owned()).join("");
        assert_eq!(marks(style(false, &[("LANG", "en_US.UTF-8")])), "√‼×");
        assert_eq!(marks(style(false, &[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")])), "+!x");
        assert_eq!(marks(Style::PLAIN), "+!x");
        assert_eq!(style(true, &[("LC_CTYPE", "C.utf8")]).mark(Mark::Bad), "\x1b[31m×\x1b[0m");
    }

    #[test]
    fn tables_align_and_foreign_text_cannot_steer_the_terminal() {
        let mut table = Table::new(&["NAMESPACE", "NAME", "VERDICT"]);
        assert!(table.is_empty());
        table.row(["prod", "é-api", "pass"]);
        table.row([Cell::from("a-long-namespace"), "\x1b[2Jx\n\u{202e}y".into(), Cell::coloured(Colour::Red, "fail")]);
        table.row(["x", "", "unknown", "too much"]);
        let print = |style, headings| {
            let mut out = Vec::new();
            table.print(&mut out, style, headings).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            print(Style::PLAIN, true),
            "NAMESPACE          NAME       VERDICT\n\
             prod               é-api      pass\n\
             a-long-namespace    [2Jx  y   fail\n\
             x                  -          unknown\n"
        );
        assert!(print(style(true, &[]), false).contains("   \x1b[31mfail\x1b[0m\n"));
        assert!(print(Style::PLAIN, false).starts_with("prod "));
    }

    #[test]
    fn ages_read_like_those_of_kubectl() {
        for (seconds, text) in [
            (-5.0, "0s"),
            (0.9, "0s"),
            (119.0, "119s"),
            (120.0, "2m"),
            (330.0, "5m30s"),
            (10_200.0, "170m"),
            (19_800.0, "5h30m"),
            (108_000.0, "30h"),
            (273_600.0, "3d4h"),
            (25_920_000.0, "300d"),
            (65_664_000.0, "2y30d"),
            (f64::NAN, "?"),
            (f64::INFINITY, "?"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn percentages_keep_the_digits_that_matter() {
        for (share, text) in [
            (0.05, "5 %"),
            (0.081, "8.1 %"),
            (0.0005, "0.05 %"),
            (0.118, "11.8 %"),
            (1.0, "100 %"),
            (0.0, "0 %"),
            (0.123_456, "12.3 %"),
            (0.012_345, "1.2 %"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
