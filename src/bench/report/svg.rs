//! Just enough of SVG for two pictures. Pure.

use std::fmt::Write;

/// A picture under way.
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text is anchored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64, dashed: bool) {
        let dash = if dashed { " stroke-dasharray=\"4 4\"" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>"
        );
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], colour: &str, width: f64, dashed: bool) {
        let dash = if dashed { " stroke-dasharray=\"4 4\"" } else { "" };
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>",
            points.join(" ")
        );
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: &str) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\" stroke=\"#fff\" stroke-width=\"1.5\"/>"
        );
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{style}\">{text}</text>"
        );
    }

    /// A text that runs upwards along the vertical axis.
    pub(super) fn upwards(&mut self, (x, y): (f64, f64), text: &str) {
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" class=\"axis\" transform=\"rotate(-90 {x:.1} {y:.1})\">{text}</text>"
        );
    }

    pub(super) fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
font-family=\"Helvetica, Arial, sans-serif\">\n<style>.title{{font-size:16px;font-weight:bold;fill:#1f2933}}\
.sub{{font-size:12px;fill:#52606d}}.axis{{font-size:12px;fill:#52606d}}.tick{{font-size:11px;fill:#7b8794}}\
.label{{font-size:12px;fill:#323f4b}}.ours{{font-size:13px;font-weight:bold;fill:#0b7a5a}}</style>\n\
<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }
}
