//! The commands of the README and of the pages in `docs/`, as they stand there.
//!
//! Each block of commands runs, or has the mark `<!-- not run: REASON -->` above it. The flags of all other commands
//! exist, in marked blocks and in the text.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;
use crate::site::ptth;

/// The languages of blocks with commands; `console` is for commands with their output, which do not run.
const COMMANDS: [&str; 2] = ["sh", "console"];
const MARK: &str = "<!-- not run: ";

/// A page, with its path below the root of the repository.
struct Page {
    path: String,
    text: String,
}

/// A block of code.
struct Block {
    /// The line of its opening fence, from 1.
    line: usize,
    language: String,
    text: String,
    /// Why it does not run.
    not_run: Option<String>,
}

fn at(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn pages() -> Vec<Page> {
    let names =
        fs::read_dir(at("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let docs = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let mut paths: Vec<_> = docs.chain(["README.md".to_owned()]).collect();
    paths.sort();
    paths.into_iter().map(|path| Page { text: fs::read_to_string(at(&path)).unwrap(), path }).collect()
}

impl Page {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        // The indent of the open block, which belongs to no line of it.
        let mut open = None;
        let mut mark = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            let trimmed = line.trim_start();
            let fence = trimmed.strip_prefix("```");
            match (open, fence) {
                (Some(_), Some(_)) => open = None,
                (Some(indent), None) => {
                    let block = blocks.last_mut().unwrap();
                    block.text.push_str(line.get(indent..).unwrap_or(trimmed));
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    open = Some(line.len() - trimmed.len());
                    let (language, text, not_run) = (language.to_owned(), String::new(), mark.take());
                    blocks.push(Block { line: number, language, text, not_run });
                }
                (None, None) => {
                    assert_eq!(mark, None, "{}:{number}: the line after a mark is no block", self.path);
                    mark = trimmed.strip_prefix(MARK).map(|rest| {
                        let reason = rest.strip_suffix(" -->").filter(|reason| !reason.is_empty());
                        reason.unwrap_or_else(|| panic!("{}:{number}: no reason", self.path)).to_owned()
                    });
                }
            }
        }
        assert!(open.is_none() && mark.is_none(), "{}: a block or a mark without an end", self.path);
        blocks
    }

    /// The commands of `ptth` that do not run: in marked blocks, and in the text.
    fn other_commands(&self) -> Vec<String> {
        let blocks = self.blocks();
        let marked = blocks.iter().filter(|block| block.not_run.is_some());
        let lines = marked.flat_map(|block| block.text.lines());
        let in_blocks = lines.filter_map(|line| line.find("ptth ").map(|start| line[start..].to_owned()));
        // With the blocks left out, every second part between backticks is code.
        let text: String = self.text.split("```").step_by(2).collect();
        let spans = text.split('`').skip(1).step_by(2).filter(|span| span.starts_with("ptth "));
        in_blocks.chain(spans.map(str::to_owned)).collect()
    }

    /// Runs the blocks without a mark, in namespaces of their own.
    fn run(&self) {
        let blocks = self.blocks();
        let mut run =
            blocks.iter().filter(|block| block.language == "sh" && block.not_run.is_none()).peekable();
        if run.peek().is_none() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("blocks")).unwrap();
        for block in run {
            fs::write(home.path().join(format!("blocks/line-{:04}", block.line)), &block.text).unwrap();
        }
        // A visitor's request fails if its answer is an error.
        fs::write(home.path().join(".curlrc"), "silent\nshow-error\nfail-with-body\nmax-time = 60\n")
            .unwrap();
        let mut shell = alone(home.path());
        shell.arg(at("tests/e2e/pages/run.sh")).arg(ptth().get_program()).arg(at("tests/e2e/pages"));
        let mut shell = Process::start(&mut shell);
        assert_eq!(shell.ends(), 0, "{}: {shell}", self.path);
    }
}

/// A shell that is root in namespaces of its own, which end its background processes. A page names ports and hosts.
fn alone(home: &Path) -> Command {
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PTTH_") {
            shell.env_remove(name);
        }
    }
    shell.current_dir(home).env("HOME", home).env("NO_PROXY", "*").env_remove("XDG_STATE_HOME");
    shell
}

#[test]
fn every_block_without_a_mark_runs() {
    for page in pages() {
        page.run();
    }
}

#[test]
fn every_block_that_cannot_run_has_a_mark() {
    for page in pages() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.path, block.line);
            let language = &*block.language;
            assert!(!["", "bash", "shell"].contains(&language), "{place}: the language of commands is sh");
            assert!(language != "console" || block.not_run.is_some(), "{place}: needs {MARK}REASON -->");
            assert!(
                COMMANDS.contains(&language) || block.not_run.is_none(),
                "{place}: a mark without commands"
            );
        }
    }
}

#[test]
fn every_flag_of_a_command_in_the_text_exists() {
    let mut helps = HashMap::new();
    for page in pages() {
        for command in page.other_commands() {
            let mut words = command.split_whitespace().skip(1);
            let subcommand: Vec<&str> = match words.next() {
                Some(first @ ("token" | "certs" | "config")) => {
                    [first].into_iter().chain(words.next()).collect()
                }
                Some(first @ ("relay" | "login" | "doctor" | "demo" | "completions" | "man")) => vec![first],
                // A target alone starts an agent, too.
                _ => vec!["agent"],
            };
            let help = helps.entry(subcommand.join(" ")).or_insert_with(|| {
                let output = ptth().args(&subcommand).arg("--help").output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            });
            let known = |flag: &str| help.split([' ', ',', '\n', '=', '[']).any(|word| word == flag);
            for word in command.split_whitespace().filter(|word| word.starts_with("--")) {
                let flag = word.split('=').next().unwrap_or(word);
                assert!(known(flag), "{}: `{command}`: {flag} is not in the help", page.path);
            }
        }
    }
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for page in pages() {
        let folder = at(&page.path).parent().unwrap().to_owned();
        let links = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if path.is_empty() { at(&page.path) } else { folder.join(path) };
            let text =
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {link}: {error}", page.path));
            let found =
                anchor.is_empty() || text.lines().any(|line| anchor_of(line).as_deref() == Some(anchor));
            assert!(found, "{}: {link}: no such heading", page.path);
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?.to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    Some(kept.map(|c| if c == ' ' { '-' } else { c }).collect())
}

/// The first minute of a new reader: one block, pasted into one terminal.
#[test]
fn the_readme_block_for_one_machine_works_when_pasted() {
    let home = tempfile::tempdir().unwrap();
    let page = pages().into_iter().find(|page| page.path == "README.md").unwrap();
    let block = page.blocks().into_iter().find(|block| block.text.contains("ptth.localhost")).unwrap();
    let program = Path::new(ptth().get_program()).parent().unwrap().to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let script = format!("ip link set lo up\nset -e\n{}", block.text);
    let mut pasted = Process::start(alone(home.path()).args(["-c", &script]).env("PATH", path));
    assert_eq!(pasted.ends(), 0, "{pasted}");
    assert!(pasted.out.all().iter().any(|line| line == "hello"), "{pasted}");
}
