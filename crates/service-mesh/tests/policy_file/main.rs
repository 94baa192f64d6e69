//! The policy file as its users see it.
//!
//! - [`keys`]: every key is read, and what is not said has the default of the code.
//! - [`mistakes`]: what is told of each kind of mistake, and that none is a panic.
//! - [`reloading`]: what changes, and what stays as it was.
#![cfg(all(feature = "policy_file", not(loom)))]

mod keys;
mod mistakes;
mod reloading;

/// The complete example of the book: the longest of the page's TOML blocks.
fn complete_example() -> &'static str {
    let page = include_str!("../../../../docs/book/policy-file.md");
    let blocks = page.split("```toml\n").skip(1).filter_map(|block| block.split("```").next());
    blocks.max_by_key(|block| block.len()).expect("the page has an example")
}
