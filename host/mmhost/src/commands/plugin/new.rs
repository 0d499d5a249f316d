//! `mmhost plugin new`.

use std::path::Path;

use mmhost_plugins::Kind;
use mmhost_plugins::build::Lang;

use crate::cli::{KindArg, LangArg};
use crate::failure::{Blame, Outcome};

/// Makes the folder and says what to do next.
pub fn run(name: &str, kind: KindArg, lang: LangArg, plugins: &Path) -> Outcome<()> {
    let kind = match kind {
        KindArg::Tool => Kind::SearchTool,
        KindArg::Reward => Kind::Reward,
        KindArg::Filter => Kind::DatasetFilter,
    };
    let lang = match lang {
        LangArg::Rust => Lang::Rust,
        LangArg::Python => Lang::Python,
        LangArg::Javascript => Lang::JavaScript,
        LangArg::C => Lang::C,
    };
    let folder = mmhost_plugins::new::new(plugins, name, kind, lang).input(format!("cannot make the plugin {name}"))?;
    let folder = folder.display();
    println!("{folder} is made; its README.md tells more. Next:");
    println!("  mmhost plugin build {folder}");
    println!("  mmhost plugin check {folder}");
    Ok(())
}
