//! The end of a run: bits of the medium flip, and the log is opened once more.

use wharf_log::disk::simulated::Faults;
use wharf_log::disk::{Disk, Open};

use super::{MAINTENANCE_STEPS_MAX, Simulation};
use crate::checkers::{Broken, damage_is_told};
use crate::plan::Fault;

impl Simulation {
    /// Flips bits somewhere on the disk and checks that nothing wrong is served and nothing is
    /// missing in silence.
    pub(crate) fn corrupt(&mut self) -> Result<(), Broken> {
        if !self.has(Fault::Corruption) {
            return Ok(());
        }
        self.disk.set_faults(Faults::default());
        self.commit()?;
        if self.random.coin() {
            self.maintain(MAINTENANCE_STEPS_MAX)?;
        }
        // The frame that is written last cannot be told from a torn write when it is damaged; it tells
        // of all before it that they were durable.
        self.mix.buffered_percent = 0;
        let frames = self.log.reader.statistics().frames;
        let mut before = self.model.clone();
        while self.log.reader.statistics().frames == frames {
            before = self.model.clone();
            self.submit();
            self.commit()?;
            if self.disk.is_off() {
                return Ok(());
            }
        }
        if self.random.coin() {
            self.stop()?;
        }
        if self.disk.is_off() {
            return Ok(());
        }
        let must = before.in_common_with(&self.model);
        self.disk = self.disk.kill();
        let paths = self.disk.paths();
        for _ in 0..self.random.between(1, 3) {
            let path = &paths[self.random.index(paths.len())];
            let file = self.disk.open(path, Open::Existing);
            let bytes = file.and_then(|file| file.len()).unwrap_or(0);
            let mut position = self.random.below(bytes);
            if self.random.coin() {
                // Where the headers of frames are.
                position = (position & !0xFFF) + self.random.below(300);
            }
            // Beyond the end nothing can flip.
            self.report.flipped_bits += u64::from(self.disk.corrupt(path, position).is_ok());
        }
        match self.open() {
            // Refusing to open at all is loud enough, as long as everything is still there.
            Err(_refused) => damage_is_told::nothing_is_deleted(&paths, &self.disk.paths()),
            Ok(log) => {
                self.report.opened_damaged += 1;
                self.log = log;
                damage_is_told::check(&must, &self.written, &self.log.reader, self.latest)
            }
        }
    }
}
