//! The snapshot a node starts with, taken in by every core in slices while clients hear LOADING.
//!
//! Nothing else happens to the data meanwhile: no expiry, no links, no snapshots. The node serves when all cores are
//! done, because any of them may own a client's key.

use std::io::Read;
use std::sync::atomic::Ordering;

use super::Worker;
use super::control::Figures;
use super::home::info::Lines;
use super::port::Action;
use crate::base::time::Now;
use crate::snapshot::load;

/// What a core knows of it until the whole node is done.
pub(super) struct Loading {
    /// This core's share; `None`: it is done, others are not.
    share: Option<load::Loading<Box<dyn Read>>>,
    began: Now,
    total_bytes: u64,
}

impl Worker {
    /// Begins to load; `None`: there is nothing to load. What takes no longer than a slice is done at once.
    pub fn begin_loading(&mut self, share: Option<load::Loading<Box<dyn Read>>>, now: Now) {
        let total_bytes = share.as_ref().map_or(0, |share| share.progress().1);
        self.loading = Some(Loading { share, began: now, total_bytes });
        if total_bytes == 0 {
            return self.end_loading(now);
        }
        self.load_slice(now);
    }

    /// Whether some core of the node has not loaded all of its data.
    pub(super) fn is_loading(&self) -> bool {
        self.loading.is_some() && self.node.loading.load(Ordering::Acquire) > 0
    }

    /// Takes in one slice. True: there is more to do now.
    pub(super) fn load_slice(&mut self, now: Now) -> bool {
        let bytes = self.config.loading_process_events_interval_bytes;
        let Some(share) = self.loading.as_mut().and_then(|loading| loading.share.as_mut()) else {
            // This core is done; with the last one its ordinary work begins.
            if !self.is_loading() {
                self.loading = None;
            }
            return false;
        };
        match share.step(&mut self.shard, bytes, now) {
            Ok(true) => self.end_loading(now),
            Ok(false) => {}
            Err(reason) => {
                // It was looked at whole before: it changed under us, and part of it is loaded.
                tracing::error!("The snapshot changed while it was loaded: {reason}");
                self.loading = None;
                self.act(Action::Exit(1));
                return false;
            }
        }
        true
    }

    fn end_loading(&mut self, now: Now) {
        let Some(loading) = &mut self.loading else { return };
        loading.share = None;
        if self.node.loading.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if loading.total_bytes > 0 {
            let state = self.persistence();
            let (keys, expired) = (state.keys_loaded, state.keys_expired);
            let took_ms = now.mono_us.saturating_sub(self.node.started.mono_us) / 1000;
            tracing::info!("DB loaded from disk: {keys} keys, {expired} expired, {took_ms} ms after the start");
        }
        tracing::info!(port = self.config.port, cores = self.cores(), "Ready to accept connections");
        self.act(Action::Ready);
    }

    /// Bytes this core has looked at.
    pub(super) fn loading_bytes(&self) -> u64 {
        let Some(loading) = &self.loading else { return 0 };
        loading.share.as_ref().map_or(loading.total_bytes, |share| share.progress().0)
    }

    /// INFO persistence, while the node loads. Every core looks at the whole file.
    pub(super) fn loading_lines(&self, all: &Figures, lines: &mut Lines<'_>, now: Now) {
        let Some(loading) = &self.loading else { return };
        let done = all.loading_bytes / self.cores() as u64;
        let total = loading.total_bytes.max(1);
        let elapsed_s = now.mono_us.saturating_sub(loading.began.mono_us) / 1_000_000;
        // Redis' estimate: at the speed so far.
        let eta_s = (elapsed_s * total.saturating_sub(done)).checked_div(done).map_or(-1, |seconds| seconds as i64);
        lines.put("loading_start_time", loading.began.wall_ms / 1000);
        lines.put("loading_total_bytes", loading.total_bytes);
        lines.put("loading_rdb_used_mem", 0);
        lines.put("loading_loaded_bytes", done);
        lines.put("loading_loaded_perc", format!("{:.2}", done as f64 * 100.0 / total as f64));
        lines.put("loading_eta_seconds", eta_s);
    }
}
