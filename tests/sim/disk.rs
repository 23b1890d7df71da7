//! The data directory of one node: what was committed, older copies of it, and files being written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tutti::worker::port::{FileEvent, FileId, FileStep};

/// What a directory holds.
pub type Files = BTreeMap<PathBuf, Arc<Vec<u8>>>;

/// See the file's head.
#[derive(Default)]
pub struct Disk {
    pub files: Files,
    /// The directory as it was after each change, oldest first: what somebody may have copied.
    pub copies: Vec<Files>,
    /// By core and number.
    open: BTreeMap<(usize, FileId), (PathBuf, Vec<u8>)>,
    /// It is full: whatever is written fails.
    pub is_full: bool,
    /// A step takes about this long, microseconds.
    pub step_us: u64,
}

impl Disk {
    pub fn new(step_us: u64) -> Self {
        Self { step_us, ..Self::default() }
    }

    /// Does one step of a file; says how it ended.
    pub fn step(&mut self, core: usize, file: FileId, step: FileStep) -> FileEvent {
        let known = (core, file);
        match step {
            FileStep::Create(_) if self.is_full => FileEvent::Failed("no space left on device".into()),
            FileStep::Create(path) | FileStep::OpenToAppend(path) => {
                self.open.insert(known, (path, Vec::new()));
                FileEvent::Opened(0)
            }
            FileStep::Append(bytes) => match self.open.get_mut(&known) {
                Some(_) if self.is_full => {
                    self.open.remove(&known);
                    FileEvent::Failed("no space left on device".into())
                }
                Some((_, content)) => {
                    content.extend_from_slice(&bytes);
                    FileEvent::Appended
                }
                None => FileEvent::Failed("not open".into()),
            },
            FileStep::Commit => match self.open.remove(&known) {
                Some((path, content)) => {
                    self.put(path, content);
                    FileEvent::Committed
                }
                None => FileEvent::Failed("not open".into()),
            },
            FileStep::Abandon => {
                self.open.remove(&known);
                FileEvent::Abandoned
            }
            FileStep::Sync => FileEvent::Synced,
            FileStep::Open(_) | FileStep::Read(_) => FileEvent::Failed("no worker reads files yet".into()),
        }
    }

    /// A file is there, durably.
    pub fn put(&mut self, path: PathBuf, content: Vec<u8>) {
        self.files.insert(path, Arc::new(content));
        self.copies.push(self.files.clone());
    }

    /// The process is gone: what was not committed is lost.
    pub fn crash(&mut self) {
        self.open.clear();
    }
}
