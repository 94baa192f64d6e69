//! What the Markdown pages of the repository name exists: files, headings, tests and scenarios. Their examples are run
//! as documentation tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_relative_link_leads_somewhere() {
    for page in pages() {
        let folder = page.parent().unwrap();
        for link in links(&prose(&page)) {
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            assert!(
                heading.is_empty() || headings(&target).contains(heading),
                "{}: {link} names no heading",
                page.display()
            );
        }
    }
}

#[test]
fn every_test_and_scenario_that_is_cited_exists() {
    let tests = sources("rs") + &sources("py");
    let scenarios = sources("toml");
    for page in pages() {
        for cited in prose(&page).split('`').skip(1).step_by(2) {
            let known = match cited.strip_prefix('"').and_then(|cited| cited.strip_suffix('"')) {
                Some(name) if is_claim(name, ' ') => scenarios.contains(&format!("\nname = \"{name}\"")),
                // Long names of metrics look like claims; the code has them as they are.
                None if is_claim(cited, '_') => {
                    let forms = [format!("fn {cited}("), format!("def {cited}("), format!("\"{cited}\"")];
                    forms.iter().any(|form| tests.contains(form))
                }
                _ => true,
            };
            assert!(known, "{} cites {cited}, which is nowhere", page.display());
        }
    }
}

/// Tests and scenarios are named as claims, which takes more words than a field or a value does.
fn is_claim(name: &str, gap: char) -> bool {
    name.split(gap).count() > 4
        && !name.starts_with(gap)
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_ ,.:'-".contains(c))
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    text.split("```").step_by(2).collect()
}

/// The targets of all links that stay within the repository.
fn links(prose: &str) -> Vec<String> {
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// What a link can name in a page: its headings, spelled as GitHub spells them.
fn headings(page: &Path) -> BTreeSet<String> {
    let spell = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(page).lines().filter(|line| line.starts_with('#')).map(spell).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every Markdown page.
fn pages() -> Vec<PathBuf> {
    let pages = files("md");
    assert!(pages.iter().any(|page| page.ends_with("README.md")), "the pages were looked for in the wrong place");
    pages
}

/// Every source file of a kind, in one text.
fn sources(extension: &str) -> String {
    files(extension).iter().map(|file| fs::read_to_string(file).unwrap()).collect()
}

/// Every file of a kind in the repository, but for what was built and what is hidden.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}
