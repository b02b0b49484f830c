//! The model: built, trained, saved, loaded, judged, and asked to write.

use super::arguments::Arguments;
use super::corpus::Alphabet;
use anyhow::{Result, ensure};
use ndarray::{Array3, Axis};
use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use std::path::Path;
use wgpu_lstm::{
    Clip, Dense, Device, Dropout, Embedding, Evaluate, Fit, Loss, Lstm, Model, Optimiser, Schedule, Sequential, Update,
};

/// Highest learning rate; it rises over the first steps and falls along half a cosine.
const RATE: f64 = 4e-3;

/// Settings that are saved with the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct WriterSettings {
    alphabet: Alphabet,
    /// Older files do not have it.
    #[serde(default)]
    trained: Option<Trained>,
}

/// The text that a model was trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Trained {
    characters: usize,
    /// CRC-32C of it in UTF-8.
    checksum: u32,
}

/// A model with the characters that it knows.
pub struct Writer {
    model: Model,
    pub alphabet: Alphabet,
    trained: Option<Trained>,
}

impl Writer {
    /// A new model, which is to be trained on this text.
    pub fn new(arguments: &Arguments, alphabet: Alphabet, text: &[char], device: &Device) -> Result<Writer> {
        let mut model = Writer::layers(arguments, &alphabet).build(device, arguments.seed)?;
        let trained = Some(Trained { characters: text.len(), checksum: checksum(text) });
        model.set_extra("text", &WriterSettings { alphabet: alphabet.clone(), trained: trained.clone() })?;
        Ok(Writer { model, alphabet, trained })
    }

    /// The layers of a new model.
    pub fn layers(arguments: &Arguments, alphabet: &Alphabet) -> Sequential {
        let mut lstm = Lstm::new(arguments.hidden).layers(arguments.layers).return_sequences(true);
        if arguments.layers > 1 {
            lstm = lstm.dropout(arguments.dropout);
        }
        Sequential::new(1)
            .add(Embedding::new(alphabet.len(), arguments.features))
            .add(lstm)
            .add(Dropout::new(arguments.dropout))
            .add(Dense::new(alphabet.len()))
    }

    /// A saved model.
    pub fn load(path: &Path, device: &Device) -> Result<Writer> {
        let mut model = Model::load(path, device)?;
        let WriterSettings { alphabet, trained } = model.extra("text")?;
        let known = model.config()?.output();
        ensure!(
            known == alphabet.len(),
            "\"{}\" is no model of this example: it knows {} characters and has {known} outputs for them",
            path.display(),
            alphabet.len()
        );
        model.compile(Loss::SparseSoftmaxCrossEntropy, Optimiser::adam(RATE))?; // to be judged
        Ok(Writer { model, alphabet, trained })
    }

    /// Characters from the start of a text that the model was trained on; `None` where that is not known.
    pub fn seen(&self, text: &[char]) -> Option<usize> {
        let Trained { characters, checksum: sum } = self.trained.as_ref()?;
        text.get(..*characters).is_some_and(|text| checksum(text) == *sum).then_some(*characters)
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(self.model.save(path)?)
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        self.model.device()
    }

    pub fn summary(&self) -> String {
        self.model.summary()
    }

    /// Trains on a text: cut into streams that are read side by side, in windows, each going on from the states that the one
    /// before it left. After each epoch `report` is given the epoch, its loss in bits and the seconds that it took.
    pub fn train(
        &mut self,
        arguments: &Arguments,
        text: &[usize],
        mut report: impl FnMut(&mut Writer, usize, f64, f64) -> Result<()>,
    ) -> Result<()> {
        let Arguments { streams, window, epochs, seed, .. } = *arguments;
        let steps = (text.len() - 1) / streams;
        let [x, y] = cut(text, streams, steps);
        let all = (epochs as u64).saturating_mul(steps.div_ceil(window) as u64);
        let update = Update::new(Optimiser::adam(RATE)).clip(Clip::Norm(1.0));
        self.model.compile(Loss::SparseSoftmaxCrossEntropy, update)?;
        for epoch in 1..=epochs {
            let fit = Fit::new().batch_size(streams).shuffle(false).truncated(window).seed(seed);
            let fit = match epoch {
                1 => fit.schedule(Schedule::cosine(all).warmup((all / 20).max(1), 0.1).per_step()),
                _ => fit.epochs(epoch).resume(true),
            };
            let history = self.model.fit(x.view(), y.view(), fit)?;
            let loss = history.loss.last().copied().unwrap_or(f32::NAN);
            report(self, epoch, bits(loss), history.seconds)?;
        }
        Ok(())
    }

    /// Bits that a character of a text costs, and how many characters were judged: some streams of it are read side by side from
    /// zero states, in windows that go on from one another.
    pub fn judge(&mut self, text: &[usize]) -> Result<(f64, usize)> {
        let (streams, count) = parts(text.len());
        let steps = (text.len() - 1) / streams / count;
        let [x, y] = cut(text, streams, steps * count).map(|all| {
            // [streams, count·steps, 1] as batches of `streams` windows
            let windows: Vec<_> = all.axis_chunks_iter(Axis(1), steps).collect();
            ndarray::concatenate(Axis(0), &windows)
        });
        let loss =
            self.model.evaluate_with(x?.view(), y?.view(), Evaluate::new().batch_size(streams).stateful(true))?;
        Ok((bits(loss), streams * count * steps))
    }

    /// Goes on from a prompt, a character at a time.
    pub fn write(&self, prompt: &[usize], arguments: &Arguments) -> Result<String> {
        let characters = self.alphabet.characters();
        let mut random = Pcg64::new(arguments.seed as u128, 0);
        let mut stream = self.model.stream(1)?;
        let mut text = String::new();
        let mut scores = stream.feed(numbers(prompt, (1, prompt.len(), 1)).view())?;
        for _ in 0..arguments.length {
            let last = scores.index_axis(Axis(1), scores.dim().1 - 1);
            // Number 0 is no character that could be written.
            let last: Vec<f64> = last.iter().skip(1).map(|&score| score as f64 / arguments.temperature).collect();
            let next = 1 + draw(&last, random.random());
            text.push(characters[next]);
            scores = stream.feed(numbers(&[next], (1, 1, 1)).view())?;
        }
        Ok(text)
    }
}

/// The index that a number from 0 to 1 falls on, where indices have room by softmax of their scores.
fn draw(scores: &[f64], at: f64) -> usize {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let room: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let mut left = at * room.iter().sum::<f64>();
    let found = room.iter().position(|room| {
        left -= room;
        left < 0.0
    });
    found.unwrap_or(scores.len() - 1)
}

/// Streams to judge a text of so many characters in, and windows of each: streams of at least 1,000 characters, windows of at
/// most 256.
fn parts(characters: usize) -> (usize, usize) {
    let streams = (characters / 1000).clamp(1, 16);
    (streams, ((characters - 1) / streams).div_ceil(256))
}

/// Numbers and their successors, each [streams, steps, 1]: stream after stream of a text.
fn cut(text: &[usize], streams: usize, steps: usize) -> [Array3<f32>; 2] {
    [0, 1].map(|ahead| Array3::from_shape_fn((streams, steps, 1), |(s, t, _)| text[s * steps + t + ahead] as f32))
}

fn checksum(text: &[char]) -> u32 {
    text.iter().fold(0, |sum, c| crc32c::crc32c_append(sum, c.encode_utf8(&mut [0; 4]).as_bytes()))
}

fn numbers(text: &[usize], shape: (usize, usize, usize)) -> Array3<f32> {
    Array3::from_shape_fn(shape, |(_, t, _)| text[t] as f32)
}

/// Of a loss in nats.
fn bits(loss: f32) -> f64 {
    loss as f64 / std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_softmax() {
        let scores = [0.0, 3f64.ln(), f64::NEG_INFINITY, 4f64.ln()]; // 1, 3, 0 and 4 of 8
        for (at, expected) in [(0.0, 0), (0.124, 0), (0.126, 1), (0.499, 1), (0.501, 3), (1.0, 3)] {
            assert_eq!(draw(&scores, at), expected, "{at}");
        }
    }

    #[test]
    fn a_saved_model_knows_its_text() {
        let arguments = clap::Parser::parse_from(["text", "--hidden", "4", "--features", "2"]);
        let text: Vec<char> = "fünf mal fünf".chars().collect();
        let writer = Writer::new(&arguments, Alphabet::new(&text, 99), &text[..8], &Device::cpu()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        writer.save(&path).unwrap();
        let mut writer = Writer::load(&path, &Device::cpu()).unwrap();
        assert_eq!((writer.seen(&text), writer.seen(&text[1..]), writer.seen(&text[..5])), (Some(8), None, None));
        writer.trained = None;
        assert_eq!(writer.seen(&text), None);
        let old: WriterSettings = serde_json::from_str(r#"{"alphabet":"abc"}"#).unwrap();
        assert!(old.trained.is_none());
    }

    #[test]
    fn cuts_are_streams_with_their_successors() {
        let text: Vec<usize> = (0..8).collect();
        let [x, y] = cut(&text, 2, 3);
        assert_eq!(x.iter().copied().collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(y, x + 1.0);
    }
}
