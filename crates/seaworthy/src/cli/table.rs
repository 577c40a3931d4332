//! Tables in plain text: columns align, the last one takes what is left of the line.
//!
//! 1. On a terminal the last column wraps at the terminal's width, and there is colour unless
//!    `NO_COLOR` is set (no-color.org).
//! 2. In a pipe nothing wraps and nothing is coloured, so that `grep` and `awk` find whole lines.
//! 3. A note stands below its row, across the columns.
//! 4. Control characters are shown, never sent: what a client wrote must not steer a terminal.

use std::fmt::Write as _;

/// What a table is printed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paper {
    Pipe,
    Terminal { width: usize, colour: Colour },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Never,
    Ansi,
}

/// The width where the environment says nothing, and the least that a table is squeezed into.
const WIDTH: usize = 80;
const WIDTH_MIN: usize = 60;

impl Paper {
    pub(super) fn of(is_terminal: bool, env: &[(String, String)]) -> Self {
        if !is_terminal {
            return Self::Pipe;
        }
        let variable =
            |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let width = variable("COLUMNS").and_then(|width| width.parse().ok()).unwrap_or(WIDTH);
        let plain = variable("NO_COLOR").is_some_and(|value| !value.is_empty())
            || variable("TERM").is_some_and(|term| term == "dumb");
        let colour = if plain { Colour::Never } else { Colour::Ansi };
        Self::Terminal { width: width.max(WIDTH_MIN), colour }
    }
}

/// How a cell looks on a terminal with colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Paint {
    #[default]
    Plain,
    Bold,
    Dim,
    Red,
    Yellow,
}

impl Paint {
    const fn ansi(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Yellow => "\x1b[33m",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
    align: Align,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

impl Cell {
    /// Line breaks count in the last column only.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: visible(&text.into()), paint: Paint::Plain, align: Align::Left }
    }

    /// For numbers.
    pub(super) fn right(text: impl Into<String>) -> Self {
        Self { align: Align::Right, ..Self::new(text) }
    }

    pub(super) fn paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }
}

/// `text` with control characters (line breaks apart) as their escapes.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Rows of `N` cells below a line of headings.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    headings: [&'static str; N],
    rows: Vec<[Cell; N]>,
    /// Each with the number of rows before it.
    notes: Vec<(usize, Cell)>,
}

/// Between two columns.
const GAP: usize = 2;

/// Before a note.
const NOTE_INDENT: usize = 2;

/// The least that the last column is given; a table that is wider than its paper breaks anyway.
const LAST_MIN: usize = 24;

impl<const N: usize> Table<N> {
    pub(super) const fn new(headings: [&'static str; N]) -> Self {
        Self { headings, rows: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Adds a line below the last row.
    pub(super) fn note(&mut self, cell: Cell) {
        self.notes.push((self.rows.len(), cell));
    }

    /// The headings as cells, each aligned as its column is.
    fn headings(&self) -> [Cell; N] {
        let mut cells = self.headings.map(|heading| Cell::new(heading).paint(Paint::Dim));
        if let Some(row) = self.rows.first() {
            for (heading, cell) in cells.iter_mut().zip(row) {
                heading.align = cell.align;
            }
        }
        cells
    }

    /// The table, each line ended; without trailing blanks.
    pub(super) fn render(&self, paper: Paper) -> String {
        let (width, colour) = match paper {
            Paper::Pipe => (usize::MAX, Colour::Never),
            Paper::Terminal { width, colour } => (width, colour),
        };
        let headings = self.headings();
        let mut widths = [0; N];
        for row in std::iter::once(&headings).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let indent: usize = widths[..N - 1].iter().map(|width| width + GAP).sum();
        let room = width.saturating_sub(indent).max(LAST_MIN);
        let mut out = String::new();
        let mut notes = self.notes.iter().peekable();
        for (above, row) in std::iter::once(&headings).chain(&self.rows).enumerate() {
            line(row, &widths, indent, room, colour, &mut out);
            while let Some((_, cell)) = notes.next_if(|(rows, _)| *rows == above) {
                note(cell, width.saturating_sub(NOTE_INDENT), colour, &mut out);
            }
        }
        out
    }
}

fn line<const N: usize>(
    row: &[Cell; N],
    widths: &[usize; N],
    indent: usize,
    room: usize,
    colour: Colour,
    out: &mut String,
) {
    let start = out.len();
    for (cell, width) in row.iter().zip(widths).take(N - 1) {
        let blanks = width - cell.text.chars().count();
        let (before, after) = match cell.align {
            Align::Left => (0, blanks),
            Align::Right => (blanks, 0),
        };
        push_blanks(out, before);
        push_painted(out, &cell.text, cell.paint, colour);
        push_blanks(out, after + GAP);
    }
    let last = &row[N - 1];
    let mut first = true;
    for text in last.text.split('\n').flat_map(|line| wrap(line, room)) {
        if !first {
            end_line(out, start);
            push_blanks(out, indent);
        }
        first = false;
        push_painted(out, &text, last.paint, colour);
    }
    end_line(out, start);
}

fn note(cell: &Cell, room: usize, colour: Colour, out: &mut String) {
    for text in wrap(&cell.text, room) {
        let start = out.len();
        push_blanks(out, NOTE_INDENT);
        push_painted(out, &text, cell.paint, colour);
        end_line(out, start);
    }
}

fn push_blanks(out: &mut String, count: usize) {
    write!(out, "{:count$}", "").expect("a string takes everything");
}

fn push_painted(out: &mut String, text: &str, paint: Paint, colour: Colour) {
    if colour == Colour::Never || paint == Paint::Plain || text.is_empty() {
        out.push_str(text);
    } else {
        write!(out, "{}{text}\x1b[0m", paint.ansi()).expect("a string takes everything");
    }
}

/// Ends a line of a table that starts at `start`, without blanks at its end.
fn end_line(out: &mut String, start: usize) {
    let kept = out.trim_end_matches(' ').len().max(start);
    out.truncate(kept);
    out.push('\n');
}

/// Splits `text` at blanks into lines of at most `room` characters; a longer word has a line of
/// its own.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table<3> {
        let mut table = Table::new(["name", "n", "about"]);
        table.row([Cell::new("a"), Cell::right("10"), Cell::new("one two three four five\nsix")]);
        table.row([Cell::new("long"), Cell::right("9").paint(Paint::Red), Cell::new("")]);
        table
    }

    #[test]
    fn columns_align_and_the_last_one_wraps_on_a_terminal() {
        assert_eq!(
            table().render(Paper::Pipe),
            "name   n  about\n\
             a     10  one two three four five\n          six\n\
             long   9\n"
        );
        let paper = Paper::Terminal { width: 22, colour: Colour::Never };
        assert_eq!(
            table().render(paper),
            "name   n  about\n\
             a     10  one two three four five\n          six\n\
             long   9\n",
            "the last column keeps its least width"
        );
        let mut narrow = Table::new(["k", "v"]);
        narrow.row([Cell::new("x"), Cell::new("aaaa bbbb cccc dddd eeee ffff gggg hhhh")]);
        let paper = Paper::Terminal { width: 30, colour: Colour::Never };
        assert_eq!(narrow.render(paper), "k  v\nx  aaaa bbbb cccc dddd eeee\n   ffff gggg hhhh\n");
    }

    #[test]
    fn a_note_stands_below_its_row_across_the_columns() {
        let mut table = Table::new(["k", "v"]);
        table.row([Cell::new("first"), Cell::new("a")]);
        table.note(Cell::new("one two three four five six seven eight"));
        table.note(Cell::new("more"));
        table.row([Cell::new("second"), Cell::new("b")]);
        assert_eq!(
            table.render(Paper::Pipe),
            "k       v\nfirst   a\n  one two three four five six seven eight\n  more\nsecond  b\n"
        );
        let paper = Paper::Terminal { width: 30, colour: Colour::Never };
        assert_eq!(
            table.render(paper),
            "k       v\nfirst   a\n  one two three four five six\n  seven eight\n  more\nsecond  b\n"
        );
    }

    #[test]
    fn colour_is_for_terminals_alone_and_control_characters_for_none() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (is_terminal, variables, want) in [
            (false, &[][..], Paper::Pipe),
            (true, &[], Paper::Terminal { width: 80, colour: Colour::Ansi }),
            (
                true,
                &[("NO_COLOR", "1"), ("COLUMNS", "120")],
                Paper::Terminal { width: 120, colour: Colour::Never },
            ),
            (true, &[("NO_COLOR", "")], Paper::Terminal { width: 80, colour: Colour::Ansi }),
            (true, &[("COLUMNS", "9")], Paper::Terminal { width: 60, colour: Colour::Ansi }),
        ] {
            assert_eq!(Paper::of(is_terminal, &env(variables)), want);
        }
        let coloured = table().render(Paper::Terminal { width: 80, colour: Colour::Ansi });
        assert!(coloured.contains("\x1b[31m9\x1b[0m"), "{coloured:?}");
        let mut hostile = Table::new(["path"]);
        hostile.row([Cell::new("/\x1b[2J\r")]);
        assert_eq!(hostile.render(Paper::Pipe), "path\n/\\u{1b}[2J\\r\n");
    }
}
