"""What AMD's shader compiler makes of every kernel, on a machine without a GPU.

    apt-get install mesa-vulkan-drivers libvulkan1
    pip install vulkan
    python tools/gpu/compiled.py [--family navi21] [--markdown]

Mesa's RADV driver has a null device for each family that it knows: pipelines become machine code, and nothing
runs. Debian 12's Mesa 22.3 knows navi21 (RX 6800 to 6950), the default.

For each variant, in f32 and, where it stores anything in 16 bits, in f16: registers, spills (a fault),
shared memory, subgroups in flight of a SIMD (of 16 in wave64 and 20 in wave32 on RDNA2), and of matrix products, in the block of their loop that multiplies and in the whole loop,
the share of vector instructions that multiply and add; multiply-adds for each byte that is read from memory and
from a workgroup's shared memory; and the share of the peak that each of these allows. Ends with 1 if a kernel
spills, or multiplies in less than 0.7 of the vector instructions of that block.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DRIVERS = pathlib.Path("/usr/share/vulkan/icd.d")
# Of a compute unit of RDNA2: lanes, each a multiply-add a clock, and bytes a clock of shared memory.
LANES, SHARED = 64, 128
# Navi 21: compute units, clock in GHz, GB/s of memory.
UNITS, CLOCK, MEMORY = 80, 2.25, 512
LEAST = 0.7

raw = argparse.RawDescriptionHelpFormatter
parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
parser.add_argument("--family", default="navi21", help="what Mesa calls it")
parser.add_argument("--markdown", action="store_true", help="a table for docs/gpu.md")
parser.add_argument("--folder", help="SPIR-V that the example spirv has written [default: it is run]")
parser.add_argument("--one", nargs=3, metavar=("FILE", "BINDINGS", "UNIFORMS"), help=argparse.SUPPRESS)


def compile_one(path, bindings, uniforms):
    """Compiles one file and prints the driver's figures."""
    import vulkan as vk

    application = vk.VkApplicationInfo(apiVersion=vk.VK_MAKE_VERSION(1, 3, 0))
    instance = vk.vkCreateInstance(vk.VkInstanceCreateInfo(pApplicationInfo=application), None)
    adapter = vk.vkEnumeratePhysicalDevices(instance)[0]
    queue = vk.VkDeviceQueueCreateInfo(queueFamilyIndex=0, queueCount=1, pQueuePriorities=[1.0])
    wanted = vk.VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR(pipelineExecutableInfo=True)
    device = vk.vkCreateDevice(
        adapter,
        vk.VkDeviceCreateInfo(
            pNext=wanted,
            pQueueCreateInfos=[queue],
            ppEnabledExtensionNames=["VK_KHR_pipeline_executable_properties"],
        ),
        None,
    )
    code = pathlib.Path(path).read_bytes()
    module = vk.vkCreateShaderModule(device, vk.VkShaderModuleCreateInfo(codeSize=len(code), pCode=code), None)
    kinds = [vk.VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER] * uniforms
    kinds += [vk.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER] * (bindings - uniforms)
    slot = lambda i, kind: vk.VkDescriptorSetLayoutBinding(
        binding=i, descriptorType=kind, descriptorCount=1, stageFlags=vk.VK_SHADER_STAGE_COMPUTE_BIT
    )
    slots = [slot(i, kind) for i, kind in enumerate(kinds)]
    sets = vk.vkCreateDescriptorSetLayout(device, vk.VkDescriptorSetLayoutCreateInfo(pBindings=slots), None)
    layout = vk.vkCreatePipelineLayout(device, vk.VkPipelineLayoutCreateInfo(pSetLayouts=[sets]), None)
    stage = vk.VkPipelineShaderStageCreateInfo(stage=vk.VK_SHADER_STAGE_COMPUTE_BIT, module=module, pName="main")
    # VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR
    wish = vk.VkComputePipelineCreateInfo(flags=0x40, stage=stage, layout=layout)
    pipeline = vk.vkCreateComputePipelines(device, None, 1, [wish], None)[0]
    ask = vk.vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR")
    found = ask(device, vk.VkPipelineExecutableInfoKHR(pipeline=pipeline, executableIndex=0))
    print(json.dumps({each.name: each.value.u64 for each in found if "ash" not in each.name}))


def blocks_of(text):
    """Names of the instructions of each basic block, in order."""
    blocks = {}
    for line in text[max(text.rfind("\nBB0:"), 0) :].splitlines():
        if begins := re.match(r"BB(\d+):", line):
            blocks[int(begins.group(1))] = current = []
        elif (instruction := re.match(r"\t(\S+)\s*(.*?)\s*;", line)) and blocks:
            current.append(instruction.groups())
    return blocks


def multiplies(name):
    return name.startswith(("v_fma", "v_fmac", "v_pk_fma", "v_dual_fmac"))


def counted(instructions):
    count = Counter(name for name, _ in instructions)
    vector = sum(n for name, n in count.items() if name.startswith("v_"))
    return sum(n for name, n in count.items() if multiplies(name)), vector


def loop_of(blocks):
    """The shares of vector instructions that multiply and add, in the block that does most and in its loop."""
    main = max(blocks, key=lambda number: counted(blocks[number])[0])
    backward = [(end, int(to[2:])) for end in blocks for name, to in blocks[end] if "branch" in name]
    loops = [(begin, end) for end, begin in backward if begin <= main <= end]
    begin, end = min(loops, key=lambda loop: loop[1] - loop[0], default=(main, main))
    whole = [each for number in blocks if begin <= number <= end for each in blocks[number]]
    share = lambda pair: pair[0] / max(pair[1], 1)
    return share(counted(blocks[main])), share(counted(whole))


def measure(folder, entry, family):
    driver = next(DRIVERS.glob("radeon_icd*.json"), None)
    if driver is None:
        sys.exit(f"no RADV driver in {DRIVERS}: apt-get install mesa-vulkan-drivers")
    environment = {
        **os.environ,
        "RADV_FORCE_FAMILY": family,
        "RADV_DEBUG": "shaders",
        "MESA_SHADER_CACHE_DISABLE": "1",
        "VK_DRIVER_FILES": str(driver),
        "VK_ICD_FILENAMES": str(driver),
    }
    one = [str(folder / entry["file"]), str(entry["bindings"]), str(entry["uniforms"])]
    command = [sys.executable, __file__, "--one", *one]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode:
        sys.exit(f"{entry['file']}: {done.stderr[-1000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found, blocks_of(done.stderr + done.stdout)


def row(folder, entry, family):
    found, blocks = measure(folder, entry, family)
    spills = found["Spilled SGPRs"] + found["Spilled VGPRs"] + found["Scratch size"]
    values = {
        "kernel": entry["kernel"],
        "what": entry["what"] + (", f16" if entry["half"] else ""),
        "tile": "",
        "registers": found["VGPRs"],
        "spills": spills,
        "shared": found["LDS size"],
        "subgroups": found["Subgroups per SIMD"],
        "instructions": found["Instructions"],
    }
    product = entry["product"]
    if not product:
        return values
    inner, loop = loop_of(blocks)
    rows, columns = product["sums"]
    allowed = {
        "instructions": loop,
        "shared memory": product["per_local_byte"] * SHARED / LANES,
        "memory": product["per_byte"] * MEMORY / (UNITS * LANES * CLOCK),
    }
    limit = min(allowed, key=allowed.get)
    return {
        **values,
        "tile": f"{product['height']}x{product['width']}, {rows}x{columns} a thread",
        "inner": inner,
        "loop": loop,
        "per_byte": product["per_byte"],
        "per_local_byte": product["per_local_byte"],
        "allowed": min(allowed[limit], 1.0),
        "limit": limit,
    }


def main(args):
    with tempfile.TemporaryDirectory() as new:
        folder = pathlib.Path(args.folder or new)
        if not args.folder:
            make = ["cargo", "run", "-q", "-p", "headstart-gpu", "--example", "spirv", "--", str(folder)]
            subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        entries = json.loads((folder / "list.json").read_text())
        rows = [row(folder, entry, args.family) for entry in entries]
    products = [r for r in rows if "inner" in r]
    if args.markdown:
        print("| product | tile | registers | subgroups | inner | loop | per byte | local | allows |")
        print("|---|---|---|---|---|---|---|---|---|")
        for r in products:
            print(
                f"| {r['what']} | {r['tile'].replace(' a thread', '')} | {r['registers']} | {r['subgroups']} "
                f"| {r['inner']:.2f} | {r['loop']:.2f} | {r['per_byte']:.1f} | {r['per_local_byte']:.2f} "
                f"| {r['allowed']:.2f}, {r['limit']} |"
            )
    else:
        for r in rows:
            print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in r.items()}))
    bad = [r for r in rows if r["spills"] or r.get("inner", 1) < LEAST]
    for r in bad:
        print(f"{r['kernel']}, {r['what']}, {r['tile']}: spills or multiplies too little", file=sys.stderr)
    print(f"{len(rows)} variants compiled for {args.family}, {len(bad)} of them bad", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    args = parser.parse_args()
    if args.one:
        compile_one(args.one[0], int(args.one[1]), int(args.one[2]))
    else:
        sys.exit(main(args))
