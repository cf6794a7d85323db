//! What is delivered and unsettled, by token. A token is good once: a settlement that comes after the
//! message was given to somebody else finds nothing.

use super::state::{MemberId, ReadingId};
use crate::transport::Token;

/// One delivery.
pub(super) struct Flight {
    pub(super) member: MemberId,
    pub(super) reading: ReadingId,
    pub(super) offset: usize,
    pub(super) attempt: u32,
}

/// Deliveries by token: a place and the generation of its use, so that a token is good once.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<(u32, Option<Flight>)>,
    free: Vec<u32>,
}

impl Flights {
    pub(super) fn insert(&mut self, flight: Flight) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 messages are in flight")
        });
        let (generation, slot) = &mut self.places[place as usize];
        *slot = Some(flight);
        u64::from(*generation) << 32 | u64::from(place)
    }

    pub(super) fn get(&self, token: Token) -> Option<&Flight> {
        let (generation, flight) = self.places.get((token & 0xffff_ffff) as usize)?;
        flight
            .as_ref()
            .filter(|_| u64::from(*generation) == token >> 32)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Flight> {
        self.get(token)?;
        let place = token & 0xffff_ffff;
        let (generation, flight) = &mut self.places[place as usize];
        *generation = generation.wrapping_add(1);
        self.free.push(u32::try_from(place).ok()?);
        flight.take()
    }

    pub(super) fn remove_all_of(&mut self, member: MemberId) -> Vec<Flight> {
        let is_its = |flight: &Flight| flight.member == member;
        let tokens = self.places.iter().zip(0u64..).filter_map(|(place, at)| {
            let (generation, flight) = place;
            let token = u64::from(*generation) << 32 | at;
            flight.as_ref().is_some_and(is_its).then_some(token)
        });
        let tokens: Vec<Token> = tokens.collect();
        tokens
            .into_iter()
            .filter_map(|token| self.remove(token))
            .collect()
    }

    pub(super) fn of(&self, reading: ReadingId) -> impl Iterator<Item = &Flight> {
        let flights = self.places.iter().filter_map(|(_, flight)| flight.as_ref());
        flights.filter(move |flight| flight.reading == reading)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
