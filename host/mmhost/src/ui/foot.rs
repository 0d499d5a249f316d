//! The foot of a terminal as something that ratatui draws on.
//!
//! All movement is relative to the first row of the view, and nothing is asked of the terminal: no cursor position is read, no mode is
//! switched, no screen is exchanged. So the log above stays in the scrollback, and a process that ends at any instant, however it
//! ends, leaves the terminal as it should be: the cursor parked on an empty row below the view.

use std::io::{self, Write};

use crossterm::style::{Attribute, Color as TerminalColour, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{Clear, ClearType as Cleared};
use crossterm::{cursor, queue};
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};

/// Rows at the foot of a terminal, drawn through `W`.
pub struct Foot<W: Write> {
    out: W,
    size: Size,
    cursor: Position,
    colours: bool,
}

impl<W: Write> Foot<W> {
    /// Makes room for `size.height` rows and one more, where the cursor rests. The cursor is at the start of a row.
    pub fn open(mut out: W, size: Size, colours: bool) -> io::Result<Self> {
        for _ in 0..size.height {
            queue!(out, Print("\n"))?;
        }
        queue!(out, cursor::MoveToColumn(0))?;
        Ok(Self { out, size, cursor: Position::new(0, size.height), colours })
    }

    /// Columns and rows of the view.
    pub fn area(&self) -> Size {
        self.size
    }

    /// Rests the cursor below the view and hands what was drawn to the terminal, in one piece.
    pub fn park(&mut self) -> io::Result<()> {
        self.set_cursor_position(Position::new(0, self.size.height))?;
        self.out.flush()
    }

    /// Removes the view; the cursor is where its first row was.
    pub fn leave(&mut self) -> io::Result<()> {
        self.set_cursor_position(Position::new(0, 0))?;
        queue!(self.out, Clear(Cleared::FromCursorDown))?;
        self.out.flush()
    }
}

impl<W: Write> Backend for Foot<W> {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        let (mut colour, mut modifier) = (Color::Reset, Modifier::empty());
        for (x, y, cell) in content {
            if (self.cursor.x, self.cursor.y) != (x, y) {
                self.set_cursor_position(Position::new(x, y))?;
            }
            if self.colours && (cell.fg, cell.modifier) != (colour, modifier) {
                queue!(self.out, SetAttribute(Attribute::Reset))?;
                if cell.modifier.contains(Modifier::BOLD) {
                    queue!(self.out, SetAttribute(Attribute::Bold))?;
                }
                if cell.modifier.contains(Modifier::DIM) {
                    queue!(self.out, SetAttribute(Attribute::Dim))?;
                }
                if cell.fg != Color::Reset {
                    queue!(self.out, SetForegroundColor(terminal_colour(cell.fg)))?;
                }
                (colour, modifier) = (cell.fg, cell.modifier);
            }
            queue!(self.out, Print(cell.symbol()))?;
            // After the last column terminals differ in where the cursor is: it is told anew.
            self.cursor.x = if x + 1 < self.size.width { x + 1 } else { u16::MAX };
        }
        if (colour, modifier) != (Color::Reset, Modifier::empty()) {
            queue!(self.out, SetAttribute(Attribute::Reset))?;
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        // It stays visible: a killed process could not bring it back.
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let to = position.into();
        match to.y.cmp(&self.cursor.y) {
            std::cmp::Ordering::Less => queue!(self.out, cursor::MoveUp(self.cursor.y - to.y))?,
            std::cmp::Ordering::Greater => queue!(self.out, cursor::MoveDown(to.y - self.cursor.y))?,
            std::cmp::Ordering::Equal => {}
        }
        queue!(self.out, cursor::MoveToColumn(to.x))?;
        self.cursor = to;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.set_cursor_position(Position::new(0, 0))?;
        self.clear_region(ClearType::AfterCursor)
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        let cleared = match clear_type {
            ClearType::CurrentLine => Cleared::CurrentLine,
            ClearType::UntilNewLine => Cleared::UntilNewLine,
            // What stands above the view is not the view's to clear.
            ClearType::All | ClearType::AfterCursor | ClearType::BeforeCursor => Cleared::FromCursorDown,
        };
        queue!(self.out, Clear(cleared))
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        // A frame is written when the cursor is parked, so that a kill cannot cut it in half.
        Ok(())
    }
}

/// The few colours of the view.
fn terminal_colour(colour: Color) -> TerminalColour {
    match colour {
        Color::Red => TerminalColour::DarkRed,
        Color::Green => TerminalColour::DarkGreen,
        Color::Yellow => TerminalColour::DarkYellow,
        Color::Cyan => TerminalColour::DarkCyan,
        _ => TerminalColour::Reset,
    }
}
