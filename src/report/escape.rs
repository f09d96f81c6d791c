//! Pure. Untrusted text (names, images, notes, sentences) made harmless for where it is shown.
//!
//! Image tags, change notes and object names are written by whoever may deploy. Markdown and Slack
//! give meaning to some of their characters; these functions take it away (safety.md 3.4).

/// One line without control characters or characters that turn the direction of writing.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            c if c.is_control() || is_invisible(c) => {}
            c => line.push(c),
        }
    }
    line.trim().to_owned()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Plain prose for Markdown (CommonMark and GitHub's tables): no markup, no HTML, no link, no heading.
pub fn markdown(text: &str) -> String {
    let line = one_line(text);
    let mut out = String::with_capacity(line.len() + 8);
    let starts_a_block = starts_a_block(&line);
    for (i, c) in line.char_indices() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => out.extend(['\\', c]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // GitHub turns bare addresses into links; an escaped mark stops it.
            ':' if line[i..].starts_with("://") => out.push_str("\\:"),
            '.' if line[..i].to_ascii_lowercase().ends_with("www") => out.push_str("\\."),
            '.' | ')' if starts_a_block == Some(i) => out.extend(['\\', c]),
            c if starts_a_block == Some(i) => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// Where the character is that would make this line a heading, a list or a rule, if any.
fn starts_a_block(line: &str) -> Option<usize> {
    match line.chars().next()? {
        '#' | '-' | '+' | '=' => Some(0),
        c if c.is_ascii_digit() => {
            let end = line.find(|c: char| !c.is_ascii_digit())?;
            line[end..].starts_with(['.', ')']).then_some(end).filter(|&end| {
                // "8.1 %" is a number, "8. " is a list.
                line[end + 1..].chars().next().is_none_or(char::is_whitespace)
            })
        }
        _ => None,
    }
}

/// A code span that holds the text as it is; fit for table cells too.
pub fn code(text: &str) -> String {
    let line = one_line(text);
    if line.is_empty() {
        return "(empty)".into();
    }
    let mut longest = 0;
    let mut run = 0;
    for c in line.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    // A pipe would end a table cell even inside code; this entity-free twin looks the same.
    let line = line.replace('|', "\u{2758}");
    if longest > 0 { format!("{fence} {line} {fence}") } else { format!("{fence}{line}{fence}") }
}

/// Text for a Slack `mrkdwn` field: exactly the three control characters are escaped.
pub fn slack(text: &str) -> String {
    one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most `max` characters; a cut is shown by an ellipsis.
pub fn cut_chars(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(max.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// At most `max` bytes, cut between characters; a cut is shown by an ellipsis.
pub fn cut_bytes(text: &str, max: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(MORE.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MORE}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_in_untrusted_text_stays_text() {
        assert_eq!(markdown("<img src=x onerror=alert(1)>"), "&lt;img src=x onerror=alert(1)&gt;");
        assert_eq!(markdown("[click](http://evil)"), "\\[click\\](http\\://evil)");
        assert_eq!(markdown("**b** `c` a|b ~~x~~"), "\\*\\*b\\*\\* \\`c\\` a\\|b \\~\\~x\\~\\~");
        assert_eq!(markdown("# Root Cause\n## Impact"), "\\# Root Cause ## Impact");
        assert_eq!(markdown("1. first"), "1\\. first");
        assert_eq!(markdown("8.1 % of 7512"), "8.1 % of 7512");
        assert_eq!(markdown("see WWW.evil.example"), "see WWW\\.evil.example");
        assert_eq!(markdown("a\u{202e}b\u{1b}[31mc"), "ab\\[31mc");
    }

    #[test]
    fn code_spans_cannot_be_left() {
        assert_eq!(code("api:1.9.0"), "`api:1.9.0`");
        assert_eq!(code("a`b"), "`` a`b ``");
        assert_eq!(code("a\n\n## b"), "`a ## b`");
        assert_eq!(code(""), "(empty)");
        assert!(!code("a|b").contains('|'));
    }

    #[test]
    fn slack_control_characters_are_escaped() {
        assert_eq!(slack("<!channel> & <http://evil|x>"), "&lt;!channel&gt; &amp; &lt;http://evil|x&gt;");
    }

    #[test]
    fn cuts_fall_between_characters() {
        assert_eq!(cut_chars("äöü", 2), "ä…");
        assert_eq!(cut_bytes("äöüäöü", 8), "äö…");
        assert_eq!(cut_bytes("short", 8), "short");
    }

    proptest! {
        #[test]
        fn escaped_prose_is_one_line_without_live_html(text in ".*") {
            let out = markdown(&text);
            prop_assert!(!out.contains(['\n', '\r', '<', '>']));
            prop_assert!(!out.starts_with(['#', '-', '+', '=']));
        }

        #[test]
        fn cut_bytes_keeps_its_limit(text in ".*", max in 3usize..64) {
            prop_assert!(cut_bytes(&text, max).len() <= max);
        }
    }
}
