using System.CommandLine;
using System.Globalization;
using MLNetLora.Adapters;
using MLNetLora.Bench;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Training;

// Figures read the same on every machine.
CultureInfo.CurrentCulture = CultureInfo.DefaultThreadCurrentCulture = CultureInfo.InvariantCulture;

Option<string> model = new("--model") { Required = true, Description = "Checkpoint folder; mlnetlora new-checkpoint makes one of any size" };
Option<int> batch = new("--batch") { DefaultValueFactory = _ => 1, Description = "Rows per step" };
Option<int> length = new("--length") { DefaultValueFactory = _ => 512, Description = "Tokens per row" };
Option<double> labelled = new("--labelled") { DefaultValueFactory = _ => 0.5, Description = "Share of the tokens that have a label" };
Option<int> rank = new("--rank") { DefaultValueFactory = _ => 64, Description = "LoRA rank" };
Option<string> targets = new("--targets")
{
    DefaultValueFactory = _ => "q_proj,v_proj",
    Description = "Adapted layers: names with commas between them, or all-linear",
};
Option<double> dropout = new("--dropout") { DefaultValueFactory = _ => 0.05, Description = "LoRA dropout" };
Option<bool> checkpointing = new("--checkpointing") { Description = "Recompute activations" };
Option<int> steps = new("--steps") { DefaultValueFactory = _ => 3, Description = "Steps after the first" };
Option<int> threads = new("--threads") { DefaultValueFactory = _ => 0, Description = "Threads; 0 takes all cores" };
Option<string> device = new("--device") { DefaultValueFactory = _ => "cpu", Description = "cpu or cuda:N (built with -p:OnnxRuntimePackage=Gpu)" };
Option<ComputeType?> computeType = new("--compute-type") { Description = "Float32 or BFloat16; by default BFloat16 on a GPU that has it" };
Option<bool> tf32 = new("--tf32") { Description = "Products of float32 in TF32 on a GPU" };
Option<bool> fused = new("--fused-kernels") { Description = "This library's own kernels on a GPU (CudaDevice.FusedKernels)" };
Option<bool> graphs = new("--graphs") { Description = "A micro-batch's kernels as a CUDA graph on a GPU; run without it, too, to compare" };
Option<double> peak = new("--peak-tflops") { Description = "A GPU's TFLOP/s, for the share reached (MFU): H100 SXM 989 in bfloat16" };
Option<bool> noFloor = new("--no-floor") { Description = "Leaves the matrix products alone out" };
Option<bool> json = new("--json") { Description = "One line of JSON" };
Option<string[]> packed = new("--data")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [],
    Description = "Data files, packed at --length; random tokens without",
};
Option<string?> tokenizerFolder = new("--tokenizer") { Description = "Folder with the tokenizer's files, where the checkpoint has none" };
Option<WeightPrecision> arithmetic = new("--precision")
{
    DefaultValueFactory = _ => WeightPrecision.Checkpoint,
    Description = "Numbers of the products with frozen weights; the floor is that of float32",
};
Option<bool> prepack = new("--prepack") { Description = "Frozen weights are laid out for the processor at the start; the floor's too" };
Option<OptimizerKind[]> optimizers = new("--optimizer")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [OptimizerKind.AdamW],
    Description = "What makes the steps; further ones are measured after it, for memory and time beside the first",
};
Option<bool> profile = new("--profile") { Description = "The ten most expensive operators and nodes" };
Command training = new("training", "LoRA training steps beside the floor of their matrix products")
{
    model, batch, length, labelled, rank, targets, dropout, checkpointing, steps, threads, packed, tokenizerFolder, arithmetic, prepack, optimizers,
    noFloor, profile, json, device, computeType, tf32, fused, graphs, peak
};
training.SetAction(p => TrainingBench.Run(new TrainingSetting(p.GetValue(model)!, p.GetValue(batch), p.GetValue(length), p.GetValue(labelled), p.GetValue(rank),
    p.GetValue(targets) is "all-linear" ? "all-linear" : p.GetValue(targets)!.Split(','), p.GetValue(dropout), p.GetValue(checkpointing),
    p.GetValue(steps), p.GetValue(threads), p.GetValue(packed)!, p.GetValue(tokenizerFolder))
{
    Precision = p.GetValue(arithmetic),
    Prepack = p.GetValue(prepack),
    Optimizer = p.GetValue(optimizers)![0],
    Device = TrainingDevice(p),
    ComputeType = p.GetValue(computeType),
    PeakTflops = p.GetValue(peak)
}, p.GetValue(optimizers)![1..],
    !p.GetValue(noFloor), p.GetValue(profile), p.GetValue(json)));
Device TrainingDevice(ParseResult p) => Device.Parse(p.GetValue(device)!) is CudaDevice cuda
    ? cuda with { Tf32 = p.GetValue(tf32), FusedKernels = p.GetValue(fused), Graphs = p.GetValue(graphs) } : Device.Cpu;
Command checkpoints = new("checkpoints", "What writing a checkpoint after every step costs a run")
{
    model, batch, length, rank, targets, dropout, steps, threads, arithmetic, optimizers
};
checkpoints.SetAction(p => CheckpointBench.Run(new TrainingSetting(p.GetValue(model)!, p.GetValue(batch), p.GetValue(length), 0.5, p.GetValue(rank),
    p.GetValue(targets) is "all-linear" ? "all-linear" : p.GetValue(targets)!.Split(','), p.GetValue(dropout), false, p.GetValue(steps),
    p.GetValue(threads), [], null)
{
    Precision = p.GetValue(arithmetic),
    Optimizer = p.GetValue(optimizers)![0],
}));
Option<int> prompt = new("--prompt") { DefaultValueFactory = _ => 256, Description = "Tokens of a prompt" };
Option<int> tokens = new("--tokens") { DefaultValueFactory = _ => 32, Description = "Tokens to generate" };
Option<int> together = new("--together") { DefaultValueFactory = _ => 16, Description = "Prompts at once" };
Option<int> repeats = new("--rounds") { DefaultValueFactory = _ => 3, Description = "Measurements of each kind; the median is shown" };
Option<string?> llama = new("--llama-bench") { Description = "Command that starts llama.cpp's llama-bench" };
Option<string[]> ggufs = new("--gguf")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [],
    Description = "The same weights for it: float32, 8-bit and 4-bit file",
};
Option<WeightPrecision[]> precisions = new("--precision")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => Enum.GetValues<WeightPrecision>(),
    Description = "How the weights are held",
};
Command generation = new("generation", "Prefill and decode with the checkpoint's weights and quantized ones, beside llama.cpp")
{
    model, prompt, tokens, together, threads, repeats, precisions, llama, ggufs, profile, json
};
generation.SetAction(p => GenerationBench.Run(new GenerationSetting(p.GetValue(model)!, p.GetValue(prompt), p.GetValue(tokens), p.GetValue(together),
    p.GetValue(threads), p.GetValue(repeats))
{ Precisions = p.GetValue(precisions)! },
    p.GetValue(llama), p.GetValue(ggufs)!, p.GetValue(profile), p.GetValue(json)));

Option<string> tokenizer = new("--tokenizer") { Required = true, Description = "Folder with the tokenizer's files" };
Option<string[]> data = new("--data") { Required = true, AllowMultipleArgumentsPerToken = true, Description = "Data files" };
Option<int> rounds = new("--rounds") { DefaultValueFactory = _ => 5, Description = "Measurements of each kind; the median is shown" };
Option<string?> peer = new("--peer") { Description = "Command that starts tokenizers_peer.py on the same tokenizer" };
Command text = new("text", "Encoding speed on data files, beside Hugging Face tokenizers") { tokenizer, data, rounds, peer };
text.SetAction(p => TextBench.Run(p.GetValue(tokenizer)!, p.GetValue(data)!, p.GetValue(rounds), p.GetValue(peer)));

Option<int> capacity = new("--length") { DefaultValueFactory = _ => 2048, Description = "Tokens per packed sequence" };
Option<int> padded = new("--batch") { DefaultValueFactory = _ => 4, Description = "Rows per padded batch, for comparison" };
Command packing = new("packing", "How full packed sequences of data files are, beside padded batches") { tokenizer, data, capacity, padded };
packing.SetAction(p => PackingBench.Run(p.GetValue(tokenizer)!, p.GetValue(data)!, p.GetValue(capacity), p.GetValue(padded)));

Option<int> schemas = new("--schemas") { DefaultValueFactory = _ => 1000, Description = "Random JSON schemas" };
Option<int> answers = new("--answers") { DefaultValueFactory = _ => 3, Description = "Answers to each; the later ones find what the first has left" };
Command constraints = new("constraints", "What JSON schemas cost a token") { tokenizer, schemas, answers };
constraints.SetAction(p => ConstraintsBench.Run(p.GetValue(tokenizer)!, p.GetValue(schemas), p.GetValue(answers)));

Option<double> gigabytes = new("--gigabytes") { DefaultValueFactory = _ => 5, Description = "Size of the generated JSONL file" };
Command dataset = new("dataset", "Reads a large JSONL file, generated for it: speed and peak memory") { gigabytes };
dataset.SetAction(p => DatasetBench.Run(p.GetValue(gigabytes)));

Option<int> curveSteps = new("--steps") { DefaultValueFactory = _ => 150, Description = "Optimizer steps of each run" };
Option<double> rate = new("--learning-rate") { DefaultValueFactory = _ => 1e-3, Description = "Peak learning rate" };
Option<string?> picture = new("--out") { Description = "PNG file for the curves" };
Command curve = new("curve", "The losses of one run in float32 and with frozen products in 8-bit integers, in figures and as a picture")
{
    model, data, curveSteps, rate, picture
};
curve.SetAction(p => CurveBench.Run(p.GetValue(model)!, p.GetValue(data)!, p.GetValue(curveSteps), p.GetValue(rate), p.GetValue(picture)));

Option<int> layers = new("--layers") { DefaultValueFactory = _ => 24, Description = "Blocks of the checkpoint, for the libtorch peer" };
Option<string?> libtorch = new("--libtorch") { Description = "Command of a LoRA step in libtorch; BATCH LENGTH LAYERS LABELLED f32|bf16 is added" };
Option<string?> transformers =
    new("--transformers")
    {
        Description = "Command of a LoRA step in transformers and PEFT on the same checkpoint; --batch, --length, --labelled and --dtype are added",
    };
Option<string[]> halves = new("--half")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [],
    Description = "Checkpoint folders with 16-bit weights, for speed and memory of each",
};
Command table = new("table", "Every figure of docs/performance.md beside its peer; about half an hour with all peers")
{
    model, layers, packed, tokenizerFolder, halves, libtorch, transformers, llama, ggufs
};
table.SetAction(p => TableBench.Run(p.GetValue(model)!, p.GetValue(layers), p.GetValue(packed)!, p.GetValue(tokenizerFolder), p.GetValue(halves)!,
    new Peers(p.GetValue(libtorch), p.GetValue(transformers), p.GetValue(llama), p.GetValue(ggufs)!)));

Option<string> dense = new("--dense") { Required = true, Description = "Checkpoint folder of a dense model with as many active parameters" };
Command mixture = new("mixture", "A mixture of experts beside a dense model with as many active parameters") { model, dense, repeats };
mixture.SetAction(p => MixtureBench.Run(p.GetValue(model)!, p.GetValue(dense)!, p.GetValue(repeats)));

Option<double[]> delays = new("--after")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [0.3, 1, 2, 4, 8],
    Description = "Seconds after which calls are cancelled",
};
Option<bool> trainingOnly = new("--training") { Description = "Leaves generation out" };
Command cancellation = new("cancellation", "How long calls take to come back after their token was cancelled") { model, delays, trainingOnly };
cancellation.SetAction(p => CancellationBench.Run(p.GetValue(model)!, p.GetValue(delays)!, p.GetValue(trainingOnly)));

Option<int[]> atOnce = new("--at-once")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [16, 64],
    Description = "Requests under way at a time, several loads one after another",
};
Option<double> arrivals = new("--rate") { Description = "Arrivals per second (Poisson, open loop); 0 sends the next when one is answered" };
Option<int> longestPrompt = new("--prompt") { DefaultValueFactory = _ => 200, Description = "Tokens of the longest prompts" };
Option<int> longestAnswer = new("--tokens") { DefaultValueFactory = _ => 96, Description = "Tokens of the longest answers" };
Option<int> perPlace = new("--rounds") { DefaultValueFactory = _ => 3, Description = "Requests for each of those at once" };
Option<WeightPrecision> served = new("--precision") { DefaultValueFactory = _ => WeightPrecision.Int8, Description = "How the weights are held" };
Option<string?> ours = new("--ours") { Description = "Where a service of ours listens, http://…#MODEL; without it the engine is measured without HTTP" };
Option<string?> llamaServer = new("--llama") { Description = "Where llama-server listens, http://…" };
Option<int> adapterCount = new("--adapters") { Description = "Measures the base, one adapter and as many together instead" };
Option<int> prefix = new("--prefix") { Description = "Measures the first token behind a known beginning of as many tokens instead" };
Command serving = new("serving", "Many requests at a time, mixed lengths, beside llama-server")
{
    model, served, atOnce, arrivals, perPlace, longestPrompt, longestAnswer, ours, llamaServer, adapterCount, rank, targets, prefix
};
serving.SetAction(p =>
{
    ServingSetting setting = new(p.GetValue(model)!, p.GetValue(served), p.GetValue(atOnce)!, p.GetValue(arrivals), p.GetValue(perPlace),
        p.GetValue(longestPrompt), p.GetValue(longestAnswer));
    TargetModules layers = p.GetValue(targets) is "all-linear" ? "all-linear" : p.GetValue(targets)!.Split(',');
    return p.GetValue(prefix) > 0 ? ServingBench.Prefix(setting, p.GetValue(prefix))
        : p.GetValue(adapterCount) > 0 ? ServingBench.Adapters(setting, p.GetValue(adapterCount), p.GetValue(rank), layers)
        : ServingBench.Run(setting, p.GetValue(ours), p.GetValue(llamaServer));
});

Option<string[]> planned = new("--model") { Required = true, AllowMultipleArgumentsPerToken = true, Description = "Checkpoint folders" };
Option<string[]> sets = new("--set")
{
    AllowMultipleArgumentsPerToken = true,
    DefaultValueFactory = _ => [],
    Description = "Option sets: " + string.Join(", ", PlanSetting.All.Select(setting => setting.Name)),
};
Option<int> planSteps = new("--steps") { DefaultValueFactory = _ => 4, Description = "Optimizer steps of each run" };
Command plan = new("plan", "What plans say of runs beside what the runs then take") { planned, sets, planSteps };
plan.SetAction(p => PlanBench.Run(p.GetValue(planned)!, p.GetValue(sets)!, p.GetValue(planSteps)));
Command planOne = new("plan-one") { planned, sets, planSteps };
planOne.Hidden = true;
planOne.SetAction(p => PlanBench.Plan(p.GetValue(planned)![0], p.GetValue(sets)![0], p.GetValue(planSteps)));
Command planRun = new("plan-run") { planned, sets, planSteps };
planRun.Hidden = true;
planRun.SetAction(p => PlanBench.Make(p.GetValue(planned)![0], p.GetValue(sets)![0], p.GetValue(planSteps)));
Option<int[]> planLayers = new("--layers") { Required = true, AllowMultipleArgumentsPerToken = true, Description = "How many layers each part has" };
Command planParts = new("plan-parts", "What parts of models take: whether plans may extrapolate from them") { planned, sets, planLayers };
planParts.SetAction(p => PlanBench.Parts(p.GetValue(planned)![0], p.GetValue(sets)!, p.GetValue(planLayers)!));
Command planProbe = new("plan-probe") { Hidden = true };
planProbe.SetAction(_ => PlanBench.Probe());

return new RootCommand("Measures MLNetLora beside floors and peers")
{
    table, training, generation, serving, SoakCommand.Create(), mixture, cancellation, checkpoints, curve, text, packing, constraints, dataset, plan, planOne,
    planRun, planParts, planProbe
}.Parse(args).Invoke();
