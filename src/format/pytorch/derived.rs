//! Parameters that a file holds as other tensors, from which PyTorch computes them before each forward pass.
//!
//! `torch.nn.utils` and libraries on top of it replace a parameter in this way: dropout of weights, weight and spectral
//! normalisation, pruning. A copy of the parameter can be in the file, too, as the last training step left it (cut by dropout, or
//! from before the last update). Such a copy is never read.

use super::recurrent::{is_recurrent, parted, under};
use super::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Computations on top of each other, such as weight normalisation of a pruned tensor.
const DEEPEST: usize = 3;
/// Modules inside another that are looked at.
const MODULES: usize = 1000;

/// Methods by which a parameter follows from other tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Dropout of weights, as fastai and AWD-LSTM have it: the weight is `X_raw`, and dropout acts in training alone.
    WeightDrop,
    /// `g · v / ‖v‖`: [`torch.nn.utils.weight_norm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.weight_norm.html)
    /// and `torch.nn.utils.parametrizations.weight_norm`.
    WeightNorm,
    /// `W / (uᵀ·W·v)`:
    /// [`torch.nn.utils.spectral_norm`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.spectral_norm.html) and
    /// `torch.nn.utils.parametrizations.spectral_norm`.
    SpectralNorm,
    /// `W ⊙ mask`: `torch.nn.utils.prune`.
    Pruning,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Method::WeightDrop => "the weight before dropout",
            Method::WeightNorm => "weight normalisation",
            Method::SpectralNorm => "spectral normalisation",
            Method::Pruning => "pruning",
        })
    }
}

/// A parameter that is computed, or refused by the name of its method.
#[derive(Debug)]
pub(super) struct Derived {
    pub shape: Vec<usize>,
    /// Names of the tensors that it is made of.
    pub from: Vec<String>,
    /// The method, or why the parameter is not computed, to follow its name.
    pub method: Result<Method, String>,
}

impl Derived {
    /// The tensor whose type of number is that of the parameter.
    pub fn main(&self) -> Option<&String> {
        if self.method == Ok(Method::WeightNorm) { self.from.get(1) } else { self.from.first() }
    }

    /// The method and its tensors, in words.
    pub fn origin(&self) -> Result<String, &str> {
        let method = self.method.as_ref().map_err(String::as_str)?;
        Ok(format!("{method}, from {}", self.from.join(", ")))
    }
}

/// A tensor's shape and numbers.
pub(super) type Shaped = (Vec<usize>, Vec<f64>);

/// The parameter's numbers from those of its tensors, which are as many as the method has and of shapes that were checked.
pub(super) fn compute(method: Method, mut from: Vec<Shaped>) -> Result<Vec<f64>, String> {
    match (method, &mut from[..]) {
        (Method::WeightDrop, [(_, raw)]) => Ok(std::mem::take(raw)),
        (Method::WeightNorm, [(g_shape, g), (v_shape, v)]) => {
            let kept = (0..v_shape.len()).find(|&axis| g_shape.get(axis).is_some_and(|&size| size > 1));
            let inner: usize = kept.map_or(1, |axis| v_shape[axis + 1..].iter().product());
            let row = |at: usize| if kept.is_some() { at / inner % g.len() } else { 0 };
            let mut squares = vec![0.0; g.len()];
            for (at, value) in v.iter().enumerate() {
                squares[row(at)] += value * value;
            }
            // In PyTorch's order of operations: a row of zeros becomes NaN there, too.
            let scale: Vec<f64> = g.iter().zip(squares).map(|(g, square)| g / square.sqrt()).collect();
            v.iter_mut().enumerate().for_each(|(at, value)| *value *= scale[row(at)]);
            Ok(std::mem::take(v))
        }
        (Method::SpectralNorm, [(shape, w), (_, u), (_, v)]) => {
            let (u, v): (&[f64], &[f64]) = (u, v);
            let rows = shape.first().copied().unwrap_or(1).max(1);
            let columns = (w.len() / rows).max(1);
            let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
            // σ = uᵀ·M·v, M being W along dim 0 and Wᵀ along dim 1; and |cos(u, M·v)|, which each step of training leaves at 1
            let sigma = |product: Vec<f64>| {
                let sigma = dot(&product, u);
                (sigma, (sigma / dot(&product, &product).sqrt()).abs())
            };
            let first = || sigma(w.chunks_exact(columns).map(|row| dot(row, v)).collect());
            let second = || {
                let mut product = vec![0.0; columns];
                for (row, v) in w.chunks_exact(columns).zip(v.iter()) {
                    product.iter_mut().zip(row).for_each(|(sum, w)| *sum += w * v);
                }
                sigma(product)
            };
            let sigma = if u.len() != rows {
                second().0
            } else if v.len() == rows && rows > 1 && second().1 > first().1 {
                let reason = "whose spectral normalisation is along another dim than 0 or was never trained, as its vectors say; save it \
                              after torch.nn.utils.remove_spectral_norm or parametrize.remove_parametrizations";
                return Err(reason.into());
            } else {
                first().0
            };
            w.iter_mut().for_each(|value| *value /= sigma);
            Ok(std::mem::take(w))
        }
        (Method::Pruning, [(_, w), (_, mask)]) => {
            w.iter_mut().zip(mask.iter()).for_each(|(value, mask)| *value *= mask);
            Ok(std::mem::take(w))
        }
        _ => Err("of which a part is missing".into()),
    }
}

/// All parameters that follow from tensors of a file, by name.
pub(super) fn find(tensors: &[Tensor]) -> BTreeMap<String, Derived> {
    let mut finder = Finder {
        shapes: tensors.iter().map(|tensor| (tensor.name.clone(), (tensor.shape.clone(), 0))).collect(),
        modules: BTreeSet::new(),
        found: BTreeMap::new(),
        queue: VecDeque::new(),
    };
    if tensors.iter().any(|tensor| tensor.name.ends_with("_raw") || tensor.name.contains("_raw.")) {
        for tensor in tensors {
            let (path, kind) = parted(&tensor.name);
            if is_parameter(kind) && !path.is_empty() {
                finder.modules.insert((kind.into(), path.into()));
            }
        }
    }
    finder.parametrizations(tensors);
    finder.queue.extend(tensors.iter().map(|tensor| tensor.name.clone()));
    while let Some(name) = finder.queue.pop_front() {
        finder.look(&name);
    }
    finder.found
}

/// True if the last part of a name is a layer's parameter, perhaps with a suffix.
fn is_parameter(kind: &str) -> bool {
    kind.starts_with("weight") || kind.starts_with("bias")
}

struct Finder {
    /// Shapes of tensors that are there or computed, and computations below them.
    shapes: HashMap<String, (Vec<usize>, usize)>,
    /// Names of parameters with the modules that hold them; empty where there is no dropout of weights.
    modules: BTreeSet<(String, String)>,
    found: BTreeMap<String, Derived>,
    /// Names to look at.
    queue: VecDeque<String>,
}

impl Finder {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(|(shape, _)| shape.as_slice())
    }

    fn add(&mut self, target: String, shape: &[usize], from: Vec<String>, method: Result<Method, String>) {
        let depth =
            1 + from.iter().filter_map(|name| self.shapes.get(name)).map(|(_, depth)| *depth).max().unwrap_or(0);
        let mut derived = Derived { shape: shape.to_vec(), from, method };
        if depth > DEEPEST {
            return;
        }
        match self.found.get(&target) {
            Some(other) if other.from == derived.from => return,
            Some(other) => {
                let all = [&other.from[..], &derived.from[..]].concat().join(", ");
                derived.method = Err(format!("which two methods would compute at once, from {all}"));
            }
            None => self.queue.push_back(target.clone()),
        }
        self.shapes.insert(target.clone(), (derived.shape.clone(), depth));
        self.found.insert(target, derived);
    }

    /// Adds what the tensor of this name is a part of.
    fn look(&mut self, name: &str) {
        let (path, kind) = parted(name);
        if !is_parameter(kind) {
            return;
        }
        if let Some(base) = kind.strip_suffix("_raw") {
            self.weight_drop(path, base, name);
        }
        if let Some(base) = kind.strip_suffix("_g").or(kind.strip_suffix("_v")) {
            let target = under(path, base);
            let [g, v] = ["g", "v"].map(|part| format!("{target}_{part}"));
            if self.shapes.contains_key(&g) && self.shapes.contains_key(&v) {
                self.weight_norm(target, g, v);
            }
        }
        let bases = ["_orig", "_mask", "_u", "_v"].map(|suffix| kind.strip_suffix(suffix));
        if let Some(base) = bases.into_iter().flatten().next() {
            self.original(under(path, base));
        }
    }

    /// `X_raw`: the weight `X` of the same module, or of one inside, of which the nearest is meant.
    fn weight_drop(&mut self, path: &str, base: &str, raw: &str) {
        let beside = under(path, base);
        let inside = |kind: &str| {
            let start = if path.is_empty() { String::new() } else { format!("{path}.") };
            let all = self.modules.range((kind.to_string(), start.clone())..);
            let all = all.take_while(|(own, module)| own == kind && module.starts_with(&start)).take(MODULES);
            let depth = |module: &str| module.matches('.').count();
            let all: Vec<&String> = all.map(|(_, module)| module).collect();
            let nearest = all.iter().map(|module| depth(module)).min();
            let nearest = all.into_iter().filter(|module| Some(depth(module)) == nearest);
            nearest.cloned().collect::<Vec<String>>()
        };
        // Parameters that the same module has
        let siblings: Vec<String> = match base {
            "weight" => vec!["bias".into()],
            "bias" => vec!["weight".into()],
            _ if is_recurrent(base) => {
                let own = ["weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh"];
                let rest = own.iter().find_map(|kind| base.strip_prefix(kind)).unwrap_or_default();
                own.iter().map(|kind| format!("{kind}{rest}")).filter(|kind| kind != base).collect()
            }
            _ => vec![],
        };
        let has_sibling = siblings.iter().any(|kind| self.shapes.contains_key(&under(path, kind)));
        let mut modules = inside(base);
        if modules.is_empty() && !has_sibling {
            modules = siblings.iter().map(|kind| inside(kind)).find(|modules| !modules.is_empty()).unwrap_or_default();
        }
        let shape = self.shape(raw).unwrap_or_default().to_vec();
        if self.shapes.contains_key(&beside) || modules.is_empty() {
            modules = vec![path.to_string()];
        }
        let several = modules.len() > 1;
        for module in modules {
            let target = under(&module, base);
            let method = match self.shape(&target) {
                _ if several => {
                    Err(format!("to which {raw}, the weight before dropout, can belong, as to others beside it"))
                }
                Some(other) if other != shape => {
                    Err(format!("of shape {other:?}, and {raw} of shape {shape:?}, which is the weight before dropout"))
                }
                _ => Ok(Method::WeightDrop),
            };
            self.add(target, &shape, vec![raw.into()], method);
        }
    }

    fn weight_norm(&mut self, target: String, g: String, v: String) {
        let (g_shape, v_shape) = (self.shape(&g).unwrap_or_default(), self.shape(&v).unwrap_or_default());
        let shape = v_shape.to_vec();
        // One norm, or one for each index along one axis
        let kept = g_shape.iter().filter(|&&size| size > 1).count();
        let along = g_shape.len() == v_shape.len() && g_shape.iter().zip(v_shape).all(|(&g, &v)| g == 1 || g == v);
        let method = if g_shape.is_empty() || (along && kept <= 1) {
            Ok(Method::WeightNorm)
        } else {
            Err(format!(
                "that is computed by weight normalisation from {g} of shape {g_shape:?} and {v} of shape {v_shape:?}; a norm for \
                 each index of one axis was expected, such as [rows, 1]; save it after torch.nn.utils.remove_weight_norm"
            ))
        };
        self.add(target, &shape, vec![g, v], method);
    }

    /// `X_orig` with what spectral normalisation or pruning puts beside it.
    fn original(&mut self, target: String) {
        let [orig, mask, u, v] = ["orig", "mask", "u", "v"].map(|part| format!("{target}_{part}"));
        let Some(shape) = self.shape(&orig).map(<[usize]>::to_vec) else { return };
        let [masked, has_u, has_v] = [&mask, &u, &v].map(|name| self.shapes.contains_key(name));
        match (masked, has_u, has_v) {
            (true, false, false) => {
                let fits = self.shape(&mask) == Some(&shape);
                let method = fits.then_some(Method::Pruning);
                let method = method.ok_or_else(|| {
                    format!(
                        "that is computed by pruning from {orig} of shape {shape:?} and {mask} of another; save it after \
                         torch.nn.utils.prune.remove"
                    )
                });
                self.add(target, &shape, vec![orig, mask], method);
            }
            (false, true, true) => self.spectral_norm(target, [orig, u, v]),
            (false, true, false) => {
                let reason = format!(
                    "that is computed by spectral normalisation from {orig} and {u}, as PyTorch before 1.0 wrote it; load it there \
                     and save it after torch.nn.utils.remove_spectral_norm"
                );
                self.add(target, &shape, vec![orig, u], Err(reason));
            }
            (false, false, _) => {
                let reason = format!(
                    "that is computed by pruning or spectral normalisation from {orig}, beside which its mask or vectors are \
                     missing; save it after torch.nn.utils.prune.remove or torch.nn.utils.remove_spectral_norm"
                );
                self.add(target, &shape, vec![orig], Err(reason));
            }
            (true, ..) => {
                let reason = format!(
                    "that is computed by pruning and spectral normalisation at once, from {orig}; remove one and save it anew"
                );
                self.add(target, &shape, vec![orig], Err(reason));
            }
        }
    }

    fn spectral_norm(&mut self, target: String, [w, u, v]: [String; 3]) {
        let shape = self.shape(&w).unwrap_or_default().to_vec();
        let (u_shape, v_shape) = (self.shape(&u).unwrap_or_default(), self.shape(&v).unwrap_or_default());
        let rows = shape.first().copied().unwrap_or(1);
        let columns: usize = shape.iter().skip(1).fold(1, |all, &size| all.saturating_mul(size));
        let fits = u_shape == [rows] && v_shape == [columns];
        let method = if fits || (shape.len() == 2 && u_shape == [columns] && v_shape == [rows]) {
            Ok(Method::SpectralNorm)
        } else {
            Err(format!(
                "that is computed by spectral normalisation from {w} of shape {shape:?}, {u} of shape {u_shape:?} and {v} of \
                 shape {v_shape:?}, which do not fit; save it after torch.nn.utils.remove_spectral_norm or \
                 parametrize.remove_parametrizations"
            ))
        };
        self.add(target, &shape, vec![w, u, v], method);
    }

    /// Parameters of `torch.nn.utils.parametrize`: `P.parametrizations.X.…` for parameter `P.X`.
    fn parametrizations(&mut self, tensors: &[Tensor]) {
        // By module and parameter
        let mut groups: BTreeMap<(&str, &str), Vec<(&str, &str)>> = BTreeMap::new();
        for Tensor { name, .. } in tensors {
            let (path, rest) = match name.rsplit_once(".parametrizations.") {
                Some(split) => split,
                None => match name.strip_prefix("parametrizations.") {
                    Some(rest) => ("", rest),
                    None => continue,
                },
            };
            if let Some((parameter, part)) = rest.split_once('.') {
                groups.entry((path, parameter)).or_default().push((part, name));
            }
        }
        for ((path, parameter), parts) in groups {
            let target = under(path, parameter);
            let named = |kind: &str| parts.iter().find(|(part, _)| *part == kind).map(|&(_, name)| name.to_string());
            let all = |kinds: &[&str]| {
                let names: Option<Vec<String>> = kinds.iter().map(|kind| named(kind)).collect();
                names.filter(|_| parts.len() == kinds.len())
            };
            if let Some([g, v]) = all(&["original0", "original1"]).as_deref() {
                self.weight_norm(target, g.clone(), v.clone());
            } else if let Some([w, u, v]) = all(&["original", "0._u", "0._v"]).as_deref() {
                self.spectral_norm(target, [w.clone(), u.clone(), v.clone()]);
            } else {
                let original = named("original").or_else(|| named("original1")).unwrap_or_default();
                let shape = self.shape(&original).unwrap_or_default().to_vec();
                let others: Vec<&str> = parts.iter().map(|&(part, _)| part).take(6).collect();
                let kind = if parts.iter().any(|(part, _)| part.contains("lora")) {
                    "LoRA"
                } else if parts.iter().any(|(part, _)| part.ends_with(".base")) {
                    "orthogonal"
                } else if others == ["original"] {
                    "such as an orthogonal one or one's own"
                } else {
                    "of another kind or several on top of each other"
                };
                let reason = format!(
                    "that is computed by a parametrization ({kind}, from {}); weight_norm and spectral_norm are computed here, others \
                     not: save it after torch.nn.utils.parametrize.remove_parametrizations(module, \"{parameter}\")",
                    others.join(", ")
                );
                self.add(target, &shape, parts.iter().map(|&(_, name)| name.to_string()).collect(), Err(reason));
            }
        }
    }
}
