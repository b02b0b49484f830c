// A Vulkan layer that makes calls fail, as drivers do when a GPU is lost or out of memory.
//
// While FAULT_ON is in the environment, calls of FAULT_FN (a name of FUNCTIONS, or CreateDevice) from number FAULT_AT on
// (default 0) return FAULT_CODE: -4, the default, for a lost device, -1 and -2 for no memory left on the host and the device.
//
//   cc -shared -fPIC -o libfault.so layer.c
//   FAULT_ON=1 FAULT_FN=WaitSemaphores VK_LAYER_PATH=$PWD VK_INSTANCE_LAYERS=VK_LAYER_WGPU_LSTM_fault PROGRAM

#define VK_NO_PROTOTYPES
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

static PFN_vkGetInstanceProcAddr next_instance_proc;
static PFN_vkGetDeviceProcAddr next_device_proc;
static VkInstance instance;
static atomic_int calls;

static int number(const char *variable, int otherwise) {
    const char *value = getenv(variable);
    return value ? atoi(value) : otherwise;
}

static int fails(const char *function) {
    const char *wanted = getenv("FAULT_FN");
    if (!getenv("FAULT_ON") || !wanted || strcmp(wanted, function) != 0) {
        return 0;
    }
    return atomic_fetch_add(&calls, 1) >= number("FAULT_AT", 0);
}

static VkResult code(void) {
    return (VkResult)number("FAULT_CODE", VK_ERROR_DEVICE_LOST);
}

#define WRAP(name, parameters, arguments)                       \
    static PFN_vk##name real_##name;                            \
    static VKAPI_ATTR VkResult VKAPI_CALL my_##name parameters { \
        return fails(#name) ? code() : real_##name arguments;   \
    }

WRAP(WaitSemaphores, (VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t t), (d, i, t))
WRAP(WaitForFences, (VkDevice d, uint32_t n, const VkFence *f, VkBool32 a, uint64_t t), (d, n, f, a, t))
WRAP(GetSemaphoreCounterValue, (VkDevice d, VkSemaphore s, uint64_t *v), (d, s, v))
WRAP(QueueSubmit, (VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f), (q, n, s, f))
WRAP(QueueWaitIdle, (VkQueue q), (q))
WRAP(AllocateMemory,
     (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *m), (d, i, a, m))
WRAP(MapMemory, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p),
     (d, m, o, s, f, p))
WRAP(CreateBuffer, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *b), (d, i, a, b))
WRAP(CreateComputePipelines,
     (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,
      VkPipeline *p),
     (d, c, n, i, a, p))
WRAP(CreateShaderModule,
     (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *s), (d, i, a, s))
WRAP(AllocateDescriptorSets, (VkDevice d, const VkDescriptorSetAllocateInfo *i, VkDescriptorSet *s), (d, i, s))
WRAP(CreateDescriptorPool,
     (VkDevice d, const VkDescriptorPoolCreateInfo *i, const VkAllocationCallbacks *a, VkDescriptorPool *p),
     (d, i, a, p))
WRAP(AllocateCommandBuffers, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *c), (d, i, c))
WRAP(CreateCommandPool,
     (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *p), (d, i, a, p))
WRAP(BeginCommandBuffer, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))
WRAP(EndCommandBuffer, (VkCommandBuffer c), (c))
WRAP(CreateSemaphore, (VkDevice d, const VkSemaphoreCreateInfo *i, const VkAllocationCallbacks *a, VkSemaphore *s),
     (d, i, a, s))

#define FUNCTIONS                                                                                                      \
    X(WaitSemaphores) X(WaitForFences) X(GetSemaphoreCounterValue) X(QueueSubmit) X(QueueWaitIdle) X(AllocateMemory)   \
    X(MapMemory) X(CreateBuffer) X(CreateComputePipelines) X(CreateShaderModule) X(AllocateDescriptorSets)             \
    X(CreateDescriptorPool) X(AllocateCommandBuffers) X(CreateCommandPool) X(BeginCommandBuffer) X(EndCommandBuffer)   \
    X(CreateSemaphore)

static VKAPI_ATTR VkResult VKAPI_CALL my_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator, VkDevice *device) {
    if (fails("CreateDevice")) {
        return code();
    }
    VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
        link = (VkLayerDeviceCreateInfo *)link->pNext;
    }
    PFN_vkGetInstanceProcAddr of_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    next_device_proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice create = (PFN_vkCreateDevice)of_instance(instance, "vkCreateDevice");
    VkResult result = create(physical, info, allocator, device);
    if (result != VK_SUCCESS) {
        return result;
    }
#define X(name) real_##name = (PFN_vk##name)next_device_proc(*device, "vk" #name);
    FUNCTIONS
#undef X
    if (!real_WaitSemaphores) {
        real_WaitSemaphores = (PFN_vkWaitSemaphores)next_device_proc(*device, "vkWaitSemaphoresKHR");
    }
    if (!real_GetSemaphoreCounterValue) {
        real_GetSemaphoreCounterValue =
            (PFN_vkGetSemaphoreCounterValue)next_device_proc(*device, "vkGetSemaphoreCounterValueKHR");
    }
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL my_CreateInstance(const VkInstanceCreateInfo *info,
                                                        const VkAllocationCallbacks *allocator, VkInstance *made) {
    VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)info->pNext;
    while (link->sType != VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO || link->function != VK_LAYER_LINK_INFO) {
        link = (VkLayerInstanceCreateInfo *)link->pNext;
    }
    next_instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)next_instance_proc(VK_NULL_HANDLE, "vkCreateInstance");
    VkResult result = create(info, allocator, made);
    instance = *made;
    return result;
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_device_proc(VkDevice device, const char *name) {
#define X(function)                                                             \
    if (strcmp(name, "vk" #function) == 0) {                                    \
        return (PFN_vkVoidFunction)(real_##function ? my_##function : NULL);    \
    }
    FUNCTIONS
#undef X
    if (strcmp(name, "vkWaitSemaphoresKHR") == 0) {
        return (PFN_vkVoidFunction)my_WaitSemaphores;
    }
    if (strcmp(name, "vkGetSemaphoreCounterValueKHR") == 0) {
        return (PFN_vkVoidFunction)my_GetSemaphoreCounterValue;
    }
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) {
        return (PFN_vkVoidFunction)fault_device_proc;
    }
    return next_device_proc(device, name);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_instance_proc(VkInstance of, const char *name) {
    if (strcmp(name, "vkCreateInstance") == 0) {
        return (PFN_vkVoidFunction)my_CreateInstance;
    }
    if (strcmp(name, "vkCreateDevice") == 0) {
        return (PFN_vkVoidFunction)my_CreateDevice;
    }
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) {
        return (PFN_vkVoidFunction)fault_device_proc;
    }
    if (strcmp(name, "vkGetInstanceProcAddr") == 0) {
        return (PFN_vkVoidFunction)fault_instance_proc;
    }
    return next_instance_proc ? next_instance_proc(of, name) : NULL;
}
