//! Writes the manual pages and the completion scripts of the program, under both of its names, into a
//! folder: `just manual FOLDER`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use fedora_message_operator::cli;

/// The shells that packages install scripts for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| io::Error::other("usage: manual FOLDER"))?;
    fs::create_dir_all(&folder)?;
    for mut definition in [cli::long_definition(), cli::short_definition()] {
        let name = definition.get_name().to_owned();
        for shell in SHELLS {
            generate_to(shell, &mut definition, &name, &folder)?;
        }
        definition.build();
        write_pages(&definition, &name, &folder)?;
    }
    Ok(())
}

/// Writes the page of a command, and of those below it.
fn write_pages(definition: &Command, name: &str, folder: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    // The name of a page has no blank.
    let name = name.replace(' ', "-");
    Man::new(definition.clone().name(name.clone())).render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    let below = definition.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set());
    below.into_iter().try_for_each(|below| write_pages(below, &format!("{name}-{}", below.get_name()), folder))
}
