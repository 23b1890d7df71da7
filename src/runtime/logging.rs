//! The log: Redis' lines (`12345:M 23 Nov 2026 15:10:51.123 * message key=value`) or JSON, to standard output or a file,
//! and to the system log when asked.
//!
//! A thread of its own writes. An event costs the core that meets it one formatted string and a push into a bounded
//! queue, never a wait: when the disk or the pipe is too slow, lines are dropped and their number is logged afterwards.
//! A log file that was moved or removed is opened anew within a second, so that rotation needs no signal; `reopen` is
//! there for SIGHUP.

use std::ffi::CString;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::config::Config;
use crate::config::values::{LogFormat, LogLevel, SyslogFacility};

/// Starts the log of this process and makes it the target of every tracing macro. Call it once: after the process has
/// gone into the background (threads do not survive a fork), and before the calling thread is pinned (the log's thread
/// may run on the cores its starter may).
pub fn init(config: &Config) -> Result<Log, String> {
    let (subscriber, log) = build(config)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| "the log was started twice".to_owned())?;
    let _ = RUNNING.set(log.clone());
    report_panics(log.clone());
    Ok(log)
}

static RUNNING: OnceLock<Log> = OnceLock::new();

/// Changes the level of the process' log, if it was started.
pub fn set_level(level: LogLevel) {
    if let Some(log) = RUNNING.get() {
        log.set_level(level);
    }
}

/// The running log.
#[derive(Clone, Debug)]
pub struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    queue: SyncSender<Message>,
}

impl Log {
    /// Logs from this level on.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and then nothing is logged anyway.
        let _ = self.level.modify(|filter| *filter = filter_of(level));
    }

    /// Opens the log file anew.
    pub fn reopen(&self) {
        let _ = self.queue.try_send(Message::Reopen);
    }

    /// Waits until everything logged so far is written, one second at most. Call it before the process ends.
    pub fn flush(&self) {
        let until = Instant::now() + FLUSH_MAX;
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

const FLUSH_MAX: Duration = Duration::from_secs(1);
/// Lines that may wait for the writing thread.
const QUEUE_LINES: usize = 8192;
/// How much is written at once at most, give or take a line.
const BATCH_BYTES: usize = 64 << 10;
/// How often the thread looks whether the file was moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn build(config: &Config) -> Result<(impl Subscriber + Send + Sync + use<>, Log), String> {
    let output = Output::open(&config.logfile)?;
    let syslog =
        config.syslog_enabled.then(|| Syslog::open(&config.syslog_ident, config.syslog_facility)).transpose()?;
    let (queue, messages) = sync_channel(QUEUE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = Writer { output, syslog, format: config.log_format, dropped: dropped.clone() };
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.run(&messages))
        .map_err(|error| format!("cannot start the log's thread: {error}"))?;
    let (level, handle) = reload::Layer::new(filter_of(config.loglevel));
    let lines = Lines { queue: queue.clone(), format: config.log_format, dropped };
    Ok((Registry::default().with(level).with(lines), Log { level: handle, queue }))
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}

fn report_panics(log: Log) {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        let reason = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "our mistake: {}", reason.unwrap_or("no reason given"));
        log.flush();
        default(panic);
    }));
}

enum Message {
    Line(Line),
    Reopen,
    Flush(SyncSender<()>),
}

struct Line {
    when: SystemTime,
    level: Level,
    /// Text: the message with its fields. JSON: the members behind `level`, each with a comma before it.
    text: String,
}

/// Turns events into lines on the thread that meets them.
struct Lines {
    queue: SyncSender<Message>,
    format: LogFormat,
    dropped: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let text = match self.format {
            LogFormat::Text => {
                let mut text = TextFields::default();
                event.record(&mut text);
                text.message + &text.fields
            }
            LogFormat::Json => {
                let mut members = JsonFields(String::new());
                event.record(&mut members);
                members.0
            }
        };
        let line = Line { when: SystemTime::now(), level: *event.metadata().level(), text };
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct TextFields {
    message: String,
    fields: String,
}

impl Visit for TextFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => push_printable(&mut self.message, &value),
            name => {
                self.fields.push(' ');
                self.fields.push_str(name);
                self.fields.push('=');
                push_printable(&mut self.fields, &value);
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let needs_quotes = value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
        match needs_quotes && field.name() != "message" {
            true => self.record_debug(field, &value),
            false => self.record_debug(field, &format_args!("{value}")),
        }
    }
}

// What clients send may end up in a message; it must not be able to forge a line or to talk to the terminal.
fn push_printable(out: &mut String, text: &str) {
    for c in text.chars() {
        match c.is_control() {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
}

struct JsonFields(String);

impl JsonFields {
    fn member(&mut self, field: &Field) -> &mut String {
        self.0.push(',');
        push_json(&mut self.0, field.name());
        self.0.push(':');
        &mut self.0
    }

    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        write!(self.member(field), "{value}").expect("a String takes any text");
    }
}

impl Visit for JsonFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        push_json(self.member(field), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        push_json(self.member(field), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.number(field, value),
            false => self.record_debug(field, &value),
        }
    }
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c)).expect("a String takes any text"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The thread's side.
struct Writer {
    output: Output,
    syslog: Option<Syslog>,
    format: LogFormat,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut batch = String::new();
        let mut looked = Instant::now();
        loop {
            let mut done = Vec::new();
            match messages.recv_timeout(LOOK_EVERY) {
                Ok(message) => self.take(message, &mut batch, &mut done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while batch.len() < BATCH_BYTES
                && let Ok(message) = messages.try_recv()
            {
                self.take(message, &mut batch, &mut done);
            }
            self.confess_dropped(&mut batch);
            if !batch.is_empty() && looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.output.follow_rotation();
            }
            self.output.write(&batch);
            batch.clear();
            for sender in done {
                // Who asked may have given up waiting.
                let _: Result<(), SendError<()>> = sender.send(());
            }
        }
    }

    fn take(&mut self, message: Message, batch: &mut String, done: &mut Vec<SyncSender<()>>) {
        match message {
            Message::Line(line) => {
                if let Some(syslog) = &self.syslog {
                    syslog.write(&line);
                }
                push_line(batch, self.format, &line);
            }
            Message::Reopen => {
                self.output.write(batch);
                batch.clear();
                self.output.reopen();
            }
            Message::Flush(sender) => done.push(sender),
        }
    }

    fn confess_dropped(&self, batch: &mut String) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let mut text =
                format!("{dropped} lines of the log were dropped: they came faster than they could be written");
            if self.format == LogFormat::Json {
                text = format!(",\"message\":\"{text}\"");
            }
            push_line(batch, self.format, &Line { when: SystemTime::now(), level: Level::WARN, text });
        }
    }
}

fn push_line(out: &mut String, format: LogFormat, line: &Line) {
    let pid = std::process::id();
    let time = LocalTime::of(line.when);
    match format {
        LogFormat::Text => writeln!(out, "{pid}:M {} {} {}", time.redis(), mark(line.level), line.text),
        LogFormat::Json => {
            writeln!(
                out,
                "{{\"time\":\"{}\",\"pid\":{pid},\"level\":\"{}\"{}}}",
                time.iso(),
                word(line.level),
                line.text
            )
        }
    }
    .expect("a String takes any text");
}

fn mark(level: Level) -> char {
    match level {
        Level::TRACE => '.',
        Level::DEBUG => '-',
        Level::INFO => '*',
        Level::WARN | Level::ERROR => '#',
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::TRACE => "debug",
        Level::DEBUG => "verbose",
        Level::INFO => "notice",
        Level::WARN => "warning",
        Level::ERROR => "error",
    }
}

/// Where lines go.
enum Output {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Output {
    fn open(path: &str) -> Result<Self, String> {
        if path.is_empty() {
            return Ok(Self::Stdout);
        }
        // Another working directory later must not move the log.
        let path = std::path::absolute(path).map_err(|error| format!("logfile '{path}': {error}"))?;
        let file = append_to(&path).map_err(|error| format!("logfile '{}': {error}", path.display()))?;
        Ok(Self::File { path, file })
    }

    // There is nobody left to tell when the log itself cannot be written; the next line tries again.
    fn write(&mut self, text: &str) {
        let _ = match self {
            Self::Stdout => io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
            Self::File { file, .. } => file.write_all(text.as_bytes()),
        };
    }

    fn follow_rotation(&mut self) {
        if let Self::File { path, file } = self {
            let id = |found: &std::fs::Metadata| (found.dev(), found.ino());
            let is_same = matches!((std::fs::metadata(path), file.metadata()), (Ok(a), Ok(b)) if id(&a) == id(&b));
            if !is_same {
                self.reopen();
            }
        }
    }

    fn reopen(&mut self) {
        if let Self::File { path, file } = self
            && let Ok(new) = append_to(path)
        {
            *file = new;
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The system log. There is one per process.
struct Syslog;

impl Syslog {
    fn open(ident: &str, facility: SyslogFacility) -> Result<Self, String> {
        let ident = CString::new(ident).map_err(|_| "syslog-ident holds a zero byte".to_owned())?;
        let facility = match facility {
            SyslogFacility::User => libc::LOG_USER,
            SyslogFacility::Local0 => libc::LOG_LOCAL0,
            SyslogFacility::Local1 => libc::LOG_LOCAL1,
            SyslogFacility::Local2 => libc::LOG_LOCAL2,
            SyslogFacility::Local3 => libc::LOG_LOCAL3,
            SyslogFacility::Local4 => libc::LOG_LOCAL4,
            SyslogFacility::Local5 => libc::LOG_LOCAL5,
            SyslogFacility::Local6 => libc::LOG_LOCAL6,
            SyslogFacility::Local7 => libc::LOG_LOCAL7,
        };
        // SAFETY: openlog keeps the pointer, so the text is never freed.
        unsafe { libc::openlog(ident.into_raw(), libc::LOG_PID | libc::LOG_NDELAY, facility) };
        Ok(Self)
    }

    fn write(&self, line: &Line) {
        let priority = match line.level {
            Level::TRACE | Level::DEBUG => libc::LOG_DEBUG,
            Level::INFO => libc::LOG_NOTICE,
            Level::WARN | Level::ERROR => libc::LOG_WARNING,
        };
        let Ok(text) = CString::new(line.text.as_str()) else { return };
        // SAFETY: the format takes exactly one string, and `text` outlives the call.
        unsafe { libc::syslog(priority, c"%s".as_ptr(), text.as_ptr()) };
    }
}

/// A time of day where the server is.
struct LocalTime {
    tm: libc::tm,
    ms: u32,
}

impl LocalTime {
    fn of(when: SystemTime) -> Self {
        let since = when.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs() as libc::time_t;
        // SAFETY: `tm` is plain numbers and a pointer that may be null, so all zeros is a value of it.
        let mut tm: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to locals that live through the call.
        unsafe { libc::localtime_r(&raw const seconds, &raw mut tm) };
        Self { tm, ms: since.subsec_millis() }
    }

    /// `23 Nov 2026 15:10:51.123`
    fn redis(&self) -> String {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let libc::tm { tm_mday: day, tm_hour: hour, tm_min: minute, tm_sec: second, .. } = self.tm;
        let month = MONTHS[self.tm.tm_mon as usize % 12];
        let year = self.tm.tm_year + 1900;
        format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02}.{:03}", self.ms)
    }

    /// `2026-11-23T15:10:51.123+01:00`
    fn iso(&self) -> String {
        let libc::tm { tm_mday: day, tm_hour: hour, tm_min: minute, tm_sec: second, .. } = self.tm;
        let (year, month) = (self.tm.tm_year + 1900, self.tm.tm_mon + 1);
        let east_min = self.tm.tm_gmtoff / 60;
        let (sign, hours, minutes) = (if east_min < 0 { '-' } else { '+' }, east_min.abs() / 60, east_min.abs() % 60);
        format!(
            "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}{sign}{hours:02}:{minutes:02}",
            self.ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("tutti-log-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a scratch directory");
            Self(dir)
        }

        fn file(&self) -> String {
            self.0.join("log").display().to_string()
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn logged(scratch: &Scratch, format: LogFormat, act: impl FnOnce(&Log)) -> String {
        let config = Config { logfile: scratch.file(), log_format: format, ..Config::default() };
        let (subscriber, log) = build(&config).expect("the file can be opened");
        tracing::subscriber::with_default(subscriber, || act(&log));
        log.flush();
        scratch.text("log")
    }

    #[test]
    fn text_lines_look_like_those_of_redis() {
        let scratch = Scratch::new("text");
        let text = logged(&scratch, LogFormat::Text, |_| {
            tracing::info!(peer = "10.0.0.3:6379", why = "timed out", tries = 3, "link lost");
            tracing::warn!("two\nlines");
            tracing::debug!("not at this level");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let (head, rest) = lines[0].split_once(" * ").expect("the mark of a notice");
        assert_eq!(rest, "link lost peer=10.0.0.3:6379 why=\"timed out\" tries=3");
        assert!(head.starts_with(&format!("{}:M ", std::process::id())), "{head}");
        assert_eq!(head.split(' ').count(), 5, "{head}");
        assert!(lines[1].ends_with(" # two\\nlines"), "{}", lines[1]);
    }

    #[test]
    fn json_lines_are_objects() {
        let scratch = Scratch::new("json");
        let text = logged(&scratch, LogFormat::Json, |_| {
            tracing::info!(peer = "a\"b", tries = 3, ok = true, share = 0.5, "link\tlost");
        });
        let tail = r#","level":"notice","message":"link\u0009lost","peer":"a\"b","tries":3,"ok":true,"share":0.5}"#;
        assert!(text.starts_with("{\"time\":\"20") && text.trim_end().ends_with(tail), "{text}");
    }

    #[test]
    fn the_level_changes_while_running() {
        let scratch = Scratch::new("level");
        let text = logged(&scratch, LogFormat::Text, |log| {
            tracing::debug!("one");
            log.set_level(LogLevel::Verbose);
            tracing::debug!("two");
            log.set_level(LogLevel::Nothing);
            tracing::error!("three");
        });
        assert!(text.ends_with(" - two\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_moved_file_is_opened_anew() {
        let scratch = Scratch::new("moved");
        let text = logged(&scratch, LogFormat::Text, |log| {
            tracing::info!("before");
            log.flush();
            std::fs::rename(scratch.0.join("log"), scratch.0.join("log.1")).expect("it is there");
            log.reopen();
            tracing::info!("after");
        });
        assert!(scratch.text("log.1").ends_with(" * before\n"));
        assert!(text.ends_with(" * after\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let config = Config { logfile: "/nowhere/at/all".into(), ..Config::default() };
        let refusal = build(&config).err().expect("there is no such directory");
        assert!(refusal.starts_with("logfile '/nowhere/at/all': "), "{refusal}");
    }

    #[test]
    fn dropped_lines_are_counted_in_the_log() {
        let dropped = Arc::new(AtomicU64::new(3));
        for (format, tail) in [(LogFormat::Text, "be written\n"), (LogFormat::Json, "be written\"}\n")] {
            let writer = Writer { output: Output::Stdout, syslog: None, format, dropped: dropped.clone() };
            let mut batch = String::new();
            dropped.store(3, Ordering::Relaxed);
            writer.confess_dropped(&mut batch);
            writer.confess_dropped(&mut batch);
            assert!(batch.contains("3 lines of the log were dropped") && batch.ends_with(tail), "{batch}");
            assert_eq!(batch.lines().count(), 1);
        }
    }

    #[test]
    fn times_are_printed_in_both_forms() {
        let mut time = LocalTime::of(UNIX_EPOCH + Duration::from_millis(1_795_446_651_123));
        (time.tm.tm_mday, time.tm.tm_mon, time.tm.tm_year, time.tm.tm_hour, time.tm.tm_min, time.tm.tm_sec) =
            (3, 10, 126, 5, 6, 7);
        time.tm.tm_gmtoff = -12_600;
        assert_eq!(time.redis(), "03 Nov 2026 05:06:07.123");
        assert_eq!(time.iso(), "2026-11-03T05:06:07.123-03:30");
    }
}
