//! Tables that a program makes, in a page that a person writes: they stand between two marks.

use std::fs;
use std::io::{Error, ErrorKind, Result, Write, stdout};

/// Writes the table into the page that the command line names; prints it where none is named.
///
/// # Errors
/// The page cannot be read or written, or has no marks of this name.
pub(crate) fn tell(name: &str, table: &str) -> Result<()> {
    let Some(path) = std::env::args_os().nth(1) else {
        return stdout().write_all(table.as_bytes());
    };
    let page = fs::read_to_string(&path)?;
    let Some((before, _, after)) = around(&page, name) else {
        return Err(Error::new(ErrorKind::InvalidData, format!("the page has no marks for the table {name}")));
    };
    fs::write(&path, format!("{before}{table}{after}"))
}

/// The page before the table of this name, that table, and the page behind it.
pub(crate) fn around<'a>(page: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("<!-- {name}:begin -->\n\n");
    let start = page.find(&begin)? + begin.len();
    let end = start + page[start..].find(&format!("\n<!-- {name}:end -->"))?;
    Some((&page[..start], &page[start..end], &page[end..]))
}
