//! WGSL to SPIR-V and HLSL, by the same naga and with the same options as wgpu-hal 30 translates the crate's pipelines.

use anyhow::{Result, anyhow};
use naga::ShaderStage;
use naga::back::{self, PipelineConstants, hlsl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// A valid shader with values for its `override` constants.
pub struct Shader {
    module: naga::Module,
    info: ModuleInfo,
}

impl Shader {
    pub fn new(source: &str, constants: &PipelineConstants) -> Result<Shader> {
        let module =
            naga::front::wgsl::parse_str(source).map_err(|error| anyhow!("{}", error.emit_to_string(source)))?;
        // Prototypes may use subgroups; the crate's own shaders are held to WebGPU's capabilities by tests/shaders.rs.
        let allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32
            | Capabilities::MEMORY_DECORATION_COHERENT
            | Capabilities::SUBGROUP
            | Capabilities::SUBGROUP_BARRIER
            // The products by cooperative matrices
            | Capabilities::SHADER_FLOAT16
            | Capabilities::COOPERATIVE_MATRIX;
        let info = Validator::new(ValidationFlags::all(), allowed)
            .validate(&module)
            .map_err(|error| anyhow!("{}", error.emit_to_string(source)))?;
        let entry = Some((ShaderStage::Compute, "main"));
        let (module, info) = back::pipeline_constants::process_overrides(&module, &info, entry, constants)?;
        Ok(Shader { module: module.into_owned(), info: info.into_owned() })
    }

    /// Storage buffers: the highest binding, since 0 is the uniform block.
    pub fn storage_buffers(&self) -> usize {
        let bindings = self.module.global_variables.iter().filter_map(|(_, variable)| variable.binding);
        bindings.map(|at| at.binding as usize).max().unwrap_or(0)
    }

    /// SPIR-V for a Vulkan 1.3 driver with robustBufferAccess2, which checks buffers where checks are asked for.
    pub fn spirv(&self, checked: bool) -> Result<Vec<u8>> {
        let index = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
        let options = spv::Options {
            lang_version: (1, 6),
            flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
            bounds_check_policies: BoundsCheckPolicies {
                index,
                buffer: BoundsCheckPolicy::Unchecked,
                image_load: BoundsCheckPolicy::Unchecked,
                binding_array: BoundsCheckPolicy::Unchecked,
            },
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: checked,
            emit_int_div_checks: checked,
            ..spv::Options::default()
        };
        let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
        let words = spv::write_vec(&self.module, &self.info, &options, Some(&entry))?;
        Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    /// HLSL at a shader model: 6.0 for DXC, 5.1 for FXC. `written` says of each storage buffer whether it is written.
    pub fn hlsl(&self, shader_model: hlsl::ShaderModel, written: &[bool], checked: bool) -> Result<String> {
        let mut registers = hlsl::BindingMap::default();
        let uniform = naga::ResourceBinding { group: 0, binding: 0 };
        registers.insert(uniform, hlsl::BindTarget::default());
        let mut counts = [0; 2]; // t and u registers
        for (binding, &written) in (1..).zip(written) {
            let count = &mut counts[written as usize];
            let target = hlsl::BindTarget { register: *count, ..Default::default() };
            registers.insert(naga::ResourceBinding { group: 0, binding }, target);
            *count += 1;
        }
        let options = hlsl::Options {
            shader_model,
            binding_map: registers,
            fake_missing_bindings: false,
            special_constants_binding: Some(hlsl::BindTarget { space: 1, ..Default::default() }),
            zero_initialize_workgroup_memory: false,
            restrict_indexing: checked,
            force_loop_bounding: checked,
            ..hlsl::Options::default()
        };
        let entry = hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, "main".into())) };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &entry).write(&self.module, &self.info, None)?;
        Ok(text)
    }
}
