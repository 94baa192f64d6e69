//! `splice NAME PAGE < TABLE` puts a table between `<!-- NAME:begin -->` and `<!-- NAME:end -->` of a page.
#![forbid(unsafe_code)]

use std::error::Error;
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, page] = &arguments[..] else { return Err("splice NAME PAGE < TABLE".into()) };
    let table = io::read_to_string(io::stdin())?;
    let text = fs::read_to_string(page)?;
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let (before, rest) = text.split_once(&begin).ok_or("the page has no such place")?;
    let (_, after) = rest.split_once(&end).ok_or("the place has no end")?;
    fs::write(page, format!("{before}{begin}\n{}\n\n{end}{after}", table.trim()))?;
    Ok(())
}
