//! A compute pipeline's compilation on a Vulkan device that need not be able to run anything.

use anyhow::{Context, Result, bail};
use ash::{khr, vk};
use std::ffi::{CStr, CString, c_char};

/// A driver's figures of a compiled pipeline.
pub struct Compiled {
    /// Threads of a subgroup.
    pub subgroup: u32,
    /// Name and value.
    pub statistics: Vec<(String, f64)>,
    /// Name and text: intermediate code and, last, machine code.
    pub texts: Vec<(String, String)>,
}

impl Compiled {
    /// The machine code as text.
    pub fn code(&self) -> Result<&str> {
        Ok(&self.texts.last().context("the driver gives no machine code")?.1)
    }
}

/// A device that compiles.
pub struct Compiler {
    _entry: ash::Entry,
    instance: ash::Instance,
    device: ash::Device,
    info: khr::pipeline_executable_properties::Device,
    pub name: String,
    pub driver: String,
}

fn text(chars: &[c_char]) -> String {
    // SAFETY: Vulkan ends its names with 0, within the array.
    unsafe { CStr::from_ptr(chars.as_ptr()) }.to_string_lossy().into_owned()
}

fn instance(entry: &ash::Entry) -> Result<ash::Instance> {
    let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
    let create = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the structures live until the call returns.
    unsafe { entry.create_instance(&create, None) }.context("creating a Vulkan instance")
}

impl Compiler {
    /// The first device that the loader finds; `VK_ICD_FILENAMES` and `RADV_FORCE_FAMILY` choose it. wgpu opens devices with
    /// robust buffer access.
    pub fn open(robust: bool) -> Result<Compiler> {
        // SAFETY: the loader stays loaded while `_entry` lives, which is as long as what was made by it.
        let entry = unsafe { ash::Entry::load() }.context("loading libvulkan.so.1")?;
        let instance = instance(&entry)?;
        // SAFETY: handles come from this instance; structures live until each call returns.
        unsafe {
            let Some(&physical) = instance.enumerate_physical_devices()?.first() else {
                bail!("no Vulkan device; see VK_ICD_FILENAMES and RADV_FORCE_FAMILY in README.md");
            };
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let name = text(&properties.properties.device_name);
            let driver = format!("{} {}", text(&driver.driver_name), text(&driver.driver_info));

            let extensions = instance.enumerate_device_extension_properties(physical)?;
            let has = |name: &CStr| extensions.iter().any(|known| known.extension_name_as_c_str() == Ok(name));
            if !has(khr::pipeline_executable_properties::NAME) {
                bail!("{name} ({driver}) has no VK_KHR_pipeline_executable_properties");
            }
            let mut names = vec![khr::pipeline_executable_properties::NAME.as_ptr()];
            // What wgpu-hal 30 turns on and what changes code.
            let robustness = ash::ext::robustness2::NAME;
            let mut accesses = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut subgroups = vk::PhysicalDeviceSubgroupSizeControlFeatures::default().subgroup_size_control(true);
            let mut memory = vk::PhysicalDeviceVulkanMemoryModelFeatures::default();
            let mut wanted =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .features(vk::PhysicalDeviceFeatures::default().robust_buffer_access(robust))
                .push_next(&mut wanted)
                .push_next(&mut subgroups)
                .push_next(&mut memory);
            if robust && has(robustness) {
                names.push(robustness.as_ptr());
                features = features.push_next(&mut accesses);
            }
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let create = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&names)
                .push_next(&mut features);
            let device = instance.create_device(physical, &create, None).with_context(|| format!("opening {name}"))?;
            let info = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Compiler { _entry: entry, instance, device, info, name, driver })
        }
    }

    /// Compiles a module with the crate's layout: a uniform block with a dynamic offset, then storage buffers.
    pub fn compile(&self, spirv: &[u8], storage: usize) -> Result<Compiled> {
        let words: Vec<u32> = spirv.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect();
        let device = &self.device;
        let bindings: Vec<_> = (0..=storage as u32)
            .map(|binding| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding)
                    .descriptor_type(if binding == 0 {
                        vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC
                    } else {
                        vk::DescriptorType::STORAGE_BUFFER
                    })
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let entry = CString::new("main")?;
        // SAFETY: handles come from this device and are destroyed once, after their last use; structures live until each
        // call returns; the module is naga's valid SPIR-V.
        unsafe {
            let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&create, None)?];
            let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&create, None)?;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let create = [vk::ComputePipelineCreateInfo::default().flags(flags).stage(stage).layout(layout)];
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &create, None);
            let pipeline = match made {
                Ok(made) => made[0],
                Err((_, error)) => bail!("creating the pipeline: {error}"),
            };
            let compiled = self.describe(pipeline);
            device.destroy_pipeline(pipeline, None);
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(sets[0], None);
            compiled
        }
    }

    /// SAFETY: `pipeline` is alive, of this device, and was made with capture of statistics and representations.
    unsafe fn describe(&self, pipeline: vk::Pipeline) -> Result<Compiled> {
        // SAFETY: the caller's; arrays are made as long as the driver says.
        unsafe {
            let executables =
                self.info.get_pipeline_executable_properties(&vk::PipelineInfoKHR::default().pipeline(pipeline))?;
            let subgroup = executables.last().context("the driver tells of no executable")?.subgroup_size;
            let at = vk::PipelineExecutableInfoKHR::default()
                .pipeline(pipeline)
                .executable_index(executables.len() as u32 - 1);
            let statistics = self.info.get_pipeline_executable_statistics(&at)?;
            let statistics = statistics
                .iter()
                .map(|statistic| {
                    let value = match statistic.format {
                        vk::PipelineExecutableStatisticFormatKHR::BOOL32 => statistic.value.b32 as f64,
                        vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64 as f64,
                        vk::PipelineExecutableStatisticFormatKHR::UINT64 => statistic.value.u64 as f64,
                        _ => statistic.value.f64,
                    };
                    (text(&statistic.name), value)
                })
                .collect();
            // Twice: for the sizes, and for the texts.
            let call = self.info.fp().get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            call(self.device.handle(), &at, &mut count, std::ptr::null_mut()).result()?;
            let mut found = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            call(self.device.handle(), &at, &mut count, found.as_mut_ptr()).result()?;
            let mut data: Vec<Vec<u8>> = found.iter().map(|one| vec![0; one.data_size]).collect();
            for (one, data) in found.iter_mut().zip(&mut data) {
                one.p_data = data.as_mut_ptr().cast();
            }
            call(self.device.handle(), &at, &mut count, found.as_mut_ptr()).result()?;
            let texts = found
                .iter()
                .zip(&data)
                .map(|(one, data)| {
                    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
                    (text(&one.name), String::from_utf8_lossy(&data[..end]).into_owned())
                })
                .collect();
            Ok(Compiled { subgroup, statistics, texts })
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // SAFETY: all that was made of the device is destroyed.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
