//! The configuration's files: reading what `include` names, and CONFIG REWRITE, on a thread beside the data path.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::mailbox::Mailbox;
use crate::base::text::glob_match;
use crate::config::Config;
use crate::config::load::File;
use crate::config::rewrite;

/// One file with its name.
pub fn read(path: &str) -> Result<File, String> {
    fs::read(path).map(|text| (path.to_owned(), text)).map_err(|error| format!("{path}: {error}"))
}

/// What an `include` line names: one file, or those a pattern matches in the order of their names; a pattern may match
/// none.
pub fn read_included(pattern: &str) -> Result<Vec<File>, String> {
    if !pattern.contains(['*', '?', '[']) {
        return fs::read(pattern).map(|text| vec![(pattern.to_owned(), text)]).map_err(|error| error.to_string());
    }
    let start = PathBuf::from(if pattern.starts_with('/') { "/" } else { "" });
    let mut paths = vec![start];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        paths = paths.iter().flat_map(|path| matching(path, part)).collect();
    }
    paths.into_iter().filter(|path| !path.is_dir()).map(|path| read(&path.to_string_lossy())).collect()
}

fn matching(dir: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[']) {
        let path = dir.join(part);
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let here = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let names = fs::read_dir(here).into_iter().flatten().flatten().map(|entry| entry.file_name().into_vec());
    // As in a shell, a leading dot must be asked for.
    let is_hidden = |name: &[u8]| name.starts_with(b".") && !part.starts_with('.');
    let mut names: Vec<_> = names.filter(|name| !is_hidden(name) && glob_match(part.as_bytes(), name, false)).collect();
    names.sort();
    names.into_iter().map(|name| dir.join(OsString::from_vec(name))).collect()
}

/// Puts `config` into its file; the end of it goes to `mailbox`.
pub(crate) fn rewrite_beside(config: Arc<Config>, mailbox: Arc<Mailbox>) {
    let on_thread = Arc::clone(&mailbox);
    let work = move || on_thread.put_rewritten(rewrite_file(&config));
    if let Err(error) = std::thread::Builder::new().name("tutti-config".into()).spawn(work) {
        mailbox.put_rewritten(Err(format!("could not start a thread: {error}")));
    }
}

/// The old file stays whole until the new one is.
fn rewrite_file(config: &Config) -> Result<(), String> {
    // Two at once would share the temporary name.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(&config.config_file);
    let say = |doing: &str, error: std::io::Error| format!("{doing} {}: {error}", path.display());
    let old = match fs::read(path) {
        Ok(old) => old,
        // As Redis: a file that is gone is made anew.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(say("read", error)),
    };
    let new = rewrite::rewrite(&old, config, &mut read_included).map_err(|error| error.to_string())?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let written = write_whole(Path::new(&temporary), &new).and_then(|()| {
        if let Ok(mode) = fs::metadata(path).map(|meta| meta.permissions()) {
            fs::set_permissions(&temporary, mode)?;
        }
        fs::rename(&temporary, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        say("write", error)
    })
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // It may hold passwords; the old file's mode is given to it afterwards.
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
