//! Pure. The Prometheus text exposition format (0.0.4, and what OpenMetrics adds to its lines).
//!
//! Line by line: a line that is wrong in any way is skipped and counted; the others stand.

use std::borrow::Cow;

/// One sample. Labels are in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Vec<(&'a str, Cow<'a, str>)>,
    /// May be NaN or infinite, as the format allows.
    pub(super) value: f64,
}

impl Sample<'_> {
    /// A label's value; an absent label is empty.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }
}

/// Gives every good sample to `each`; returns how many lines were bad.
pub(super) fn parse(text: &[u8], mut each: impl FnMut(&Sample<'_>)) -> u64 {
    let mut bad = 0;
    for line in text.split(|b| *b == b'\n') {
        match std::str::from_utf8(line) {
            Ok(line) => {
                let line = line.trim_matches([' ', '\t', '\r']);
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                match sample(line) {
                    Some(sample) => each(&sample),
                    None => bad += 1,
                }
            }
            Err(_) => bad += 1,
        }
    }
    bad
}

/// `name{label="value",…} value [timestamp] [# exemplar]`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (name, mut rest) = identifier(line, true)?;
    let mut labels = Vec::new();
    rest = rest.trim_start_matches([' ', '\t']);
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = identifier(rest, false)?;
            let after = after.trim_start_matches([' ', '\t']).strip_prefix('=')?;
            let (value, after) = quoted(after.trim_start_matches([' ', '\t']))?;
            if labels.iter().any(|(known, _)| *known == label) {
                return None;
            }
            labels.push((label, value));
            rest = after.trim_start_matches([' ', '\t']);
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None if rest.starts_with('}') => {}
                None => return None,
            }
        }
    } else if rest.len() + name.len() == line.len() {
        // Nothing at all stood between the name and the value.
        return None;
    }
    let mut fields = rest.split([' ', '\t']).filter(|f| !f.is_empty());
    let value = number(fields.next()?)?;
    match fields.next() {
        None => {}
        Some(field) if field.starts_with('#') => {}
        Some(timestamp) => {
            number(timestamp)?;
            if fields.next().is_some_and(|field| !field.starts_with('#')) {
                return None;
            }
        }
    }
    Some(Sample { name, labels, value })
}

/// A metric name (with colons) or a label name, and what follows it.
fn identifier(text: &str, colons: bool) -> Option<(&str, &str)> {
    let fits = |(at, c): (usize, char)| {
        c.is_ascii_alphabetic() || c == '_' || (colons && c == ':') || (at > 0 && c.is_ascii_digit())
    };
    let end = text.char_indices().find(|p| !fits(*p)).map_or(text.len(), |(at, _)| at);
    (end > 0).then(|| text.split_at(end))
}

/// A quoted label value, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.strip_prefix('"')?;
    let end = {
        let mut escaped = false;
        text.char_indices().find_map(|(at, c)| match c {
            _ if escaped => {
                escaped = false;
                None
            }
            '\\' => {
                escaped = true;
                None
            }
            '"' => Some(at),
            _ => None,
        })?
    };
    let (raw, rest) = (&text[..end], &text[end + 1..]);
    if !raw.contains('\\') {
        return Some((Cow::Borrowed(raw), rest));
    }
    let mut value = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    Some((Cow::Owned(value), rest))
}

/// A number as Go writes it. Rust's parser also takes `infinity` and `nan` in any case, as Go's does.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> (Vec<(String, f64)>, u64) {
        let mut seen = Vec::new();
        let bad = parse(text.as_bytes(), |s| {
            let labels: Vec<_> = s.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
            seen.push((format!("{}{{{}}}", s.name, labels.join(";")), s.value));
        });
        (seen, bad)
    }

    #[test]
    fn reads_what_clients_write() {
        let (seen, bad) = all(concat!(
            "# HELP http_requests_total Requests.\n# TYPE http_requests_total counter\n",
            "http_requests_total{code=\"200\",method=\"post\"} 1027 1395066363000\n",
            "http_requests_total{code=\"500\", } 3\r\n\n",
            "plain 1.5e3\n  indented   7\t\n",
            "odd{path=\"C:\\\\DIR\\\\\",error=\"Cannot \\\"x\\\"\\n\"} +Inf\n",
            "with_exemplar_bucket{le=\"0.1\"} 8 # {trace_id=\"a b\"} 0.67 1.5\n",
            "timed 1 1.5 # {a=\"b\"} 1\nempty{} NaN\nutf8{a=\"grüße\"} 1\n# EOF\n",
        ));
        assert_eq!(bad, 0);
        let names: Vec<&str> = seen.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            [
                "http_requests_total{code=200;method=post}",
                "http_requests_total{code=500}",
                "plain{}",
                "indented{}",
                "odd{path=C:\\DIR\\;error=Cannot \"x\"\n}",
                "with_exemplar_bucket{le=0.1}",
                "timed{}",
                "empty{}",
                "utf8{a=grüße}",
            ]
        );
        assert_eq!(seen[0].1.to_bits(), 1027.0_f64.to_bits());
        assert!(seen[4].1.is_infinite() && seen[7].1.is_nan());
    }

    #[test]
    fn bad_lines_are_skipped_and_counted() {
        let lines = [
            "1abc 1",
            "a",
            "a{",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\"",
            "a{b=\"c\"}",
            "a x",
            "a 1 x",
            "a 1 2 3",
            "a{b=\"\\x\"} 1",
            "a{b=\"1\",b=\"2\"} 1",
            "a{b=\"1\" c=\"2\"} 1",
            "{b=\"1\"} 1",
            "<html>",
            "a{,} 1",
            "a-b 1",
        ];
        for line in lines {
            assert_eq!(all(line), (vec![], 1), "{line}");
        }
        let (seen, bad) = all("good 1\nbad bad\ngood 2");
        assert_eq!((seen.len(), bad), (2, 1));
        assert_eq!(parse(b"a{b=\"\xff\"} 1\ngood 1", |_| ()), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let lines = bytes.split(|b| *b == b'\n').count() as u64;
            let mut good = 0;
            let bad = parse(&bytes, |_| good += 1);
            prop_assert!(good + bad <= lines);
        }

        #[test]
        fn a_mangled_page_is_read_soon(page in crate::fuzz_tests::mangled("exposition")) {
            let lines = page.split(|b| *b == b'\n').count() as u64;
            let mut good = 0;
            let bad = crate::fuzz_tests::soon(|| parse(&page, |_| good += 1));
            prop_assert!(good + bad <= lines);
        }

        #[test]
        fn nearly_right_lines_never_panic(line in "[a:_]{0,2}[{]?[a ]{0,2}=?\"?[\\\\n\"x]{0,4}\"?,?[}]? ?[0-9.eNa+-]{0,5}[ #]{0,2}[0-9]{0,2}") {
            let mut long = 0;
            parse(line.as_bytes(), |s| long += s.label("a").len());
            prop_assert!(long <= line.len());
        }

        #[test]
        fn what_is_written_is_read(name in "[a-z_:][a-z0-9_:]{0,9}", label in "[a-z_][a-z0-9_]{0,9}", value in "\\PC*", n in any::<i32>()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let mut seen = Vec::new();
            let bad = parse(format!("{name}{{{label}=\"{escaped}\"}} {n}").as_bytes(), |s| {
                seen.push((s.name.to_owned(), s.label(&label).to_owned(), s.value));
            });
            prop_assert_eq!(bad, 0);
            prop_assert_eq!(seen, vec![(name, value, f64::from(n))]);
        }
    }
}
