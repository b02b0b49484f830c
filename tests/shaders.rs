//! Every shader without a GPU: parsed and validated by naga, held against the KERNELS table, and translated to SPIR-V,
//! MSL and HLSL with the options that wgpu 30 uses: the only sight of Metal and DX12 that a Linux machine gives.

use naga::back::{self, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner};
use std::collections::BTreeSet;
use wgpu_lstm::StepWeights;
use wgpu_lstm::cell::{CELLS, CellSpec};
use wgpu_lstm::kernel::{Access, KERNELS, Kernel, Scalar};

/// Every kernel, with every cell where it takes one.
fn sources() -> Vec<(&'static Kernel, Option<&'static CellSpec>, Module, ModuleInfo)> {
    let mut all = Vec::new();
    for &kernel in KERNELS {
        let cells: Vec<Option<&CellSpec>> =
            if kernel.takes_cell { CELLS.iter().map(Some).collect() } else { vec![None] };
        for cell in cells {
            let source = kernel.source(cell);
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
            // No capability beyond WebGPU's own: the shaders run in browsers, too. The conversions from f16 are WebGPU's,
            // but not OpenGL's. Kernels that enable extensions, and grids, are for devices that have what they need.
            let mut own = Capabilities::empty();
            own.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, source.contains("2x16float"));
            own.set(Capabilities::MEMORY_DECORATION_COHERENT, kernel.name.starts_with("grid_"));
            if !kernel.enables.is_empty() {
                own |= Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP;
            }
            let info = Validator::new(ValidationFlags::all(), own)
                .validate(&module)
                .unwrap_or_else(|error| panic!("{}: {}", kernel.name, error.emit_to_string(&source)));
            all.push((kernel, cell, module, info));
        }
    }
    let with_cells = KERNELS.iter().filter(|kernel| kernel.takes_cell).count();
    assert_eq!(all.len(), KERNELS.len() + with_cells * (CELLS.len() - 1));
    all
}

#[test]
fn bindings_are_those_of_the_table() {
    for (kernel, _, module, _) in sources() {
        let mut storage = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            assert_eq!(binding.group, 0, "{}", kernel.name);
            match variable.space {
                AddressSpace::Uniform => assert_eq!(binding.binding, 0, "{}", kernel.name),
                AddressSpace::Storage { access } => {
                    storage.push((binding.binding, variable.name.clone().unwrap(), access))
                }
                space => panic!("{}: {space:?} has a binding", kernel.name),
            }
        }
        storage.sort_by_key(|(index, ..)| *index);
        let expected: Vec<_> = (kernel.bindings.iter().zip(1..))
            .map(|(binding, index)| {
                let access = match binding.access {
                    Access::Read => StorageAccess::LOAD,
                    Access::ReadWrite => StorageAccess::LOAD | StorageAccess::STORE,
                };
                (index, binding.name.to_string(), access)
            })
            .collect();
        assert_eq!(storage, expected, "{}", kernel.name);
    }
}

#[test]
fn parameters_are_those_of_the_table() {
    for (kernel, _, module, _) in sources() {
        let (_, block) =
            module.global_variables.iter().find(|(_, variable)| variable.space == AddressSpace::Uniform).unwrap();
        let TypeInner::Struct { members, span } = &module.types[block.ty].inner else { panic!("{}", kernel.name) };
        assert_eq!(*span as usize, 4 * kernel.params.len(), "{}", kernel.name);
        assert_eq!(members.len(), kernel.params.len(), "{}", kernel.name);
        for ((member, (name, scalar)), index) in members.iter().zip(kernel.params).zip(0u32..) {
            assert_eq!(member.name.as_deref(), Some(*name), "{}", kernel.name);
            assert_eq!(member.offset, 4 * index, "{}.{name}", kernel.name);
            let kind = match scalar {
                Scalar::U32 => ScalarKind::Uint,
                Scalar::I32 => ScalarKind::Sint,
                Scalar::F32 => ScalarKind::Float,
            };
            let TypeInner::Scalar(found) = module.types[member.ty].inner else { panic!("{}.{name}", kernel.name) };
            assert_eq!((found.kind, found.width), (kind, 4), "{}.{name}", kernel.name);
        }
    }
}

#[test]
fn constants_workgroups_and_cells_are_those_of_the_tables() {
    for (kernel, cell, module, _) in sources() {
        // They are given by name; what a cell uses comes first in the module.
        let names: BTreeSet<_> = module.overrides.iter().filter_map(|(_, constant)| constant.name.as_deref()).collect();
        assert_eq!(names, kernel.constants.iter().copied().collect(), "{}", kernel.name);
        assert_eq!(module.entry_points.len(), 1);
        assert_eq!(module.entry_points[0].name, "main");
        let entry = &module.entry_points[0];
        let by_constant = entry.workgroup_size_overrides.is_some_and(|sizes| sizes[0].is_some());
        assert_eq!(by_constant, kernel.constants.contains(&"THREADS"), "{}", kernel.name);
        assert_eq!(by_constant, kernel.workgroup[0] == 0, "{}", kernel.name);
        if !by_constant {
            assert_eq!(entry.workgroup_size, kernel.workgroup, "{}", kernel.name);
        }
        if let Some(cell) = cell {
            let saved =
                module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some("SAVED")).unwrap().1;
            let value = &module.global_expressions[saved.init];
            assert!(
                matches!(value, naga::Expression::Literal(naga::Literal::U32(count)) if *count as usize == cell.saved),
                "{}: {value:?}, the table has {}",
                cell.name,
                cell.saved
            );
        }
    }
}

#[test]
fn every_shader_file_is_in_the_table() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let stems = |folder: &std::path::Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut stems: Vec<String> = files
            .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_string())
            .collect();
        stems.sort();
        stems
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    // variants with f16 weights, and products of dense layers, are the same file
    let own = KERNELS.iter().filter(|kernel| kernel.weights == StepWeights::F32 && !kernel.name.ends_with("_dense"));
    assert_eq!(stems(&folder), sorted(own.map(|kernel| kernel.name.to_string()).collect()));
    // with peepholes or without, normalised or not, the general cell is one file; some share what they leave open
    let own = CELLS.iter().filter(|cell| !["peephole", "normed", "normed_peephole"].contains(&cell.name));
    let names = own.map(|cell| cell.name.to_string()).chain(["open".to_string()]);
    assert_eq!(stems(&folder.join("cells")), sorted(names.collect()));
}

/// Workgroup memory and storage buffers stay within WebGPU's default limits. Where workgroup memory is a constant, the scheduler
/// keeps to the device's limit, and nothing else may be in it.
#[test]
fn shaders_keep_the_default_limits() {
    let stage = naga::ShaderStage::Compute;
    // Devices with cooperative matrices have more than that.
    for (kernel, _, module, info) in sources().into_iter().filter(|(kernel, ..)| kernel.enables.is_empty()) {
        let size = |name: &str| if name == "MEMORY" { 1024.0 } else { 1.0 };
        let constants = kernel.constants.iter().map(|name| (name.to_string(), size(name))).collect();
        let (module, info) =
            back::pipeline_constants::process_overrides(&module, &info, Some((stage, "main")), &constants).unwrap();
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let entry = info.get_entry_point(0);
        let workgroup = module
            .global_variables
            .iter()
            .filter(|(handle, variable)| variable.space == AddressSpace::WorkGroup && !entry[*handle].is_empty());
        let bytes: u32 = workgroup.map(|(_, variable)| layouter[variable.ty].size).sum();
        // Beside MEMORY, which is the scheduler's choice, `sequence_forward` has an element for each of its sizes.
        let chosen = if kernel.constants.contains(&"MEMORY") && !kernel.name.starts_with("scan") { 16_384 } else { 0 };
        assert!(
            bytes >= chosen && bytes - chosen <= if chosen > 0 { 32 } else { 16_384 },
            "{}: {bytes} bytes",
            kernel.name
        );
        assert!(kernel.bindings.len() <= 8, "{}", kernel.name);
        assert!(kernel.workgroup.iter().product::<u32>() <= 256, "{}", kernel.name);
    }
}

#[test]
fn shaders_translate_to_spirv_msl_and_hlsl() {
    let stage = naga::ShaderStage::Compute;
    for (kernel, cell, module, info) in sources() {
        let constants = kernel.constants.iter().map(|name| (name.to_string(), 1.0)).collect();
        let (module, info) =
            back::pipeline_constants::process_overrides(&module, &info, Some((stage, "main")), &constants).unwrap();
        let name = format!("{} {:?}", kernel.name, cell.map(|cell| cell.name));

        let cooperative = !kernel.enables.is_empty();
        let (lang_version, more) = match cooperative {
            // Vulkan 1.2 and its extension
            true => ((1, 5), {
                use spv::Capability::{CooperativeMatrixKHR, Float16, GroupNonUniform, VulkanMemoryModel};
                vec![CooperativeMatrixKHR, Float16, GroupNonUniform, VulkanMemoryModel]
            }),
            false => ((1, 0), Vec::new()),
        };
        let options = spv::Options {
            lang_version,
            capabilities: Some([spv::Capability::Shader, spv::Capability::Matrix].into_iter().chain(more).collect()),
            bounds_check_policies: BoundsCheckPolicies {
                index: BoundsCheckPolicy::Restrict,
                buffer: BoundsCheckPolicy::Restrict,
                image_load: BoundsCheckPolicy::Restrict,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: true,
            ..spv::Options::default()
        };
        let entry = spv::PipelineOptions { shader_stage: stage, entry_point: "main".into() };
        let words =
            spv::write_vec(&module, &info, &options, Some(&entry)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(words[0], 0x0723_0203, "{name}: SPIR-V begins with its magic number");

        let mut resources = msl::EntryPointResources { sizes_buffer: Some(30), ..Default::default() };
        let mut registers = hlsl::BindingMap::default();
        for index in 0..=kernel.bindings.len() as u32 {
            let key = naga::ResourceBinding { group: 0, binding: index };
            let mutable = index > 0 && kernel.bindings[index as usize - 1].access == Access::ReadWrite;
            resources
                .resources
                .insert(key, msl::BindTarget { buffer: Some(index as u8), mutable, ..Default::default() });
            registers.insert(key, hlsl::BindTarget { register: index, ..Default::default() });
        }
        let options = msl::Options {
            lang_version: if cooperative { (2, 3) } else { (2, 0) },
            per_entry_point_map: [("main".to_string(), resources)].into(),
            fake_missing_bindings: false,
            bounds_check_policies: BoundsCheckPolicies {
                index: BoundsCheckPolicy::Restrict,
                buffer: BoundsCheckPolicy::Restrict,
                image_load: BoundsCheckPolicy::Restrict,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: true,
            ..msl::Options::default()
        };
        let entry = msl::PipelineOptions { entry_point: Some((stage, "main".into())), ..Default::default() };
        let (text, translated) = msl::write_string(&module, &info, &options, &entry).unwrap();
        translated.entry_point_names[0].as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains("kernel void"), "{name}:\n{text}");

        // naga has no cooperative matrices in HLSL, nor in MSL those of 16 x 16; adapters there do not offer them.
        if cooperative {
            continue;
        }
        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_0,
            binding_map: registers,
            fake_missing_bindings: false,
            special_constants_binding: Some(hlsl::BindTarget { space: 1, ..Default::default() }),
            zero_initialize_workgroup_memory: true,
            restrict_indexing: true,
            force_loop_bounding: true,
            ..hlsl::Options::default()
        };
        let entry = hlsl::PipelineOptions { entry_point: Some((stage, "main".into())) };
        let mut text = String::new();
        let reflection = hlsl::Writer::new(&mut text, &options, &entry)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        reflection.entry_point_names[0].as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains("numthreads"), "{name}:\n{text}");
    }
}
