//! `tutti-server`: reads the command line and the configuration, starts the log, and runs the server.
//!
//! What the arguments and files mean is decided in `config`; this file only reads and prints.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use tutti::config::Config;
use tutti::config::args::{self, Invocation, Request};
use tutti::config::load::{Loaded, Note};
use tutti::runtime::config_file::{read, read_included};
use tutti::runtime::logging;

#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("tutti-server: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode, String> {
    let args: Vec<Vec<u8>> = std::env::args_os().skip(1).map(OsString::into_vec).collect();
    let invocation = match args::parse(&args).map_err(|error| error.to_string())? {
        Request::Help => return print(&help()),
        Request::Version => return print(&args::command().render_version().to_string()),
        Request::Start(invocation) => invocation,
    };
    let loaded = load(&invocation)?;
    if invocation.is_test {
        loaded.notes.iter().for_each(|note| eprintln!("{}", note.text));
        return print(&summary(&loaded.config));
    }
    if loaded.config.daemonize {
        leave_terminal()?;
    }
    let log = logging::init(&loaded.config)?;
    loaded.notes.iter().for_each(remark);
    let pidfile = Pidfile::write(&loaded.config.pidfile)?;
    let result = serve(loaded.config);
    drop(pidfile);
    log.flush();
    result
}

fn serve(config: Config) -> Result<ExitCode, String> {
    let code = tutti::runtime::serve::serve(config)?;
    Ok(ExitCode::from(code as u8))
}

fn load(invocation: &Invocation) -> Result<Loaded, String> {
    let file = invocation.file.as_deref().map(read).transpose()?;
    let stdin = invocation.has_stdin.then(read_stdin).transpose()?;
    let mut loaded = invocation.load(file, stdin, &mut read_included).map_err(|error| error.to_string())?;
    let config = &mut loaded.config;
    // Both are shown to clients, who do not know where we were started.
    config.dir = absolute(&config.dir).map_err(|reason| format!("dir {reason}"))?;
    config.config_file = invocation.file.as_deref().map(absolute).transpose()?.unwrap_or_default();
    Ok(loaded)
}

fn read_stdin() -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text).map_err(|error| format!("standard input: {error}"))?;
    Ok(text)
}

fn absolute(path: &str) -> Result<String, String> {
    let path = fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
    path.into_os_string().into_string().map_err(|path| format!("{}: the path is not UTF-8 text", path.display()))
}

fn leave_terminal() -> Result<(), String> {
    // SAFETY: no thread has been started yet, so the child has everything the parent had.
    match unsafe { libc::daemon(1, 0) } {
        0 => Ok(()),
        _ => Err(format!("daemonize: {}", io::Error::last_os_error())),
    }
}

/// The file that holds our process id; removed when dropped.
struct Pidfile(PathBuf);

impl Pidfile {
    fn write(path: &str) -> Result<Option<Self>, String> {
        if path.is_empty() {
            return Ok(None);
        }
        fs::write(path, format!("{}\n", std::process::id())).map_err(|error| format!("pidfile {path}: {error}"))?;
        Ok(Some(Self(PathBuf::from(path))))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // It was ours to remove, and a missing one harms nobody.
        let _ = fs::remove_file(&self.0);
    }
}

fn remark(note: &Note) {
    match note.is_warning {
        true => tracing::warn!("{}", note.text),
        false => tracing::info!("{}", note.text),
    }
}

fn help() -> String {
    let help = args::command().render_help();
    if io::stdout().is_terminal() { help.ansi().to_string() } else { help.to_string() }
}

fn summary(config: &Config) -> String {
    let mode = match (config.multi_master, config.active_replica) {
        (true, true) => "multi-master and active-replica",
        (true, false) => "multi-master",
        (false, true) => "active-replica",
        (false, false) => "neither multi-master nor active-replica",
    };
    let masters: Vec<_> = config.replicaof.iter().map(|(host, port)| format!("{host} {port}")).collect();
    let masters = if masters.is_empty() { "none".to_owned() } else { masters.join(", ") };
    format!("configuration OK: port {}, {mode}, masters: {masters}\n", config.port)
}

fn print(text: &str) -> Result<ExitCode, String> {
    // A reader that closed the pipe (--help | head) has seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}
