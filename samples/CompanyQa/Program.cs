using System.CommandLine;
using System.Diagnostics;
using System.Text;
using CompanyQa;
using Microsoft.ML;
using MLNetLora;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

// Fine-tunes a small Qwen on the questions and answers of a company, shows what it answered before and answers now,
// saves adapter, merged checkpoint and model.zip, and answers once more from the zip.
Option<string> modelOption = new("--model")
{
    Description = "Folder of a Qwen checkpoint, or a hub id, downloaded if the local cache does not hold it",
    DefaultValueFactory = _ => Path.Combine(AppContext.BaseDirectory, "qwen3-nano"),
};
Option<string> dataOption = new("--data")
{
    Description = "JSON or JSONL file of instruction / input / output rows",
    DefaultValueFactory = _ => Path.Combine(AppContext.BaseDirectory, "company_data.json"),
};
Option<string> outOption = new("--out")
{
    Description = "Folder for the adapter, the merged checkpoint and model.zip",
    DefaultValueFactory = _ => Path.Combine("out", "company-qa"),
};
Option<int?> epochsOption = new("--epochs") { Description = "Passes over the rows (default: 60 for the nano checkpoint, 10 for yours)" };
Option<int?> rankOption = new("--rank") { Description = "LoRA rank (default: 32)" };
Option<double?> rateOption = new("--learning-rate") { Description = "Peak learning rate (default: 3e-3 for the nano checkpoint, 2e-4 for yours)" };
RootCommand command = new("Teaches a Qwen the answers of a company, and asks it")
{
    modelOption, dataOption, outOption, epochsOption, rankOption, rateOption
};
command.SetAction(parsed =>
{
    // A model of a few million parameters needs and bears larger steps than a pretrained one.
    bool nano = parsed.GetResult(modelOption) is not { Implicit: false };
    int rank = parsed.GetValue(rankOption) ?? 32;
    QwenLoraTrainer.Options options = new()
    {
        ModelPath = parsed.GetValue(modelOption)!,
        Rank = rank,
        Alpha = 2 * rank,
        Dropout = 0,
        TargetModules = "all-linear",
        BatchSize = 4,
        GradientAccumulationSteps = 1,
        NumberOfEpochs = parsed.GetValue(epochsOption) ?? (nano ? 60 : 10),
        LearningRate = parsed.GetValue(rateOption) ?? (nano ? 3e-3 : 2e-4),
        Schedule = LearningRateSchedule.Cosine,
        WarmupRatio = 0.05,
        Generation = new GenerationOptions { MaximumNewTokens = 96, BatchSize = 16 }, // greedy
    };
    return Run(options, parsed.GetValue(dataOption)!, parsed.GetValue(outOption)!);
});
Console.OutputEncoding = Encoding.UTF8;
try
{
    return command.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (MLNetLoraException error)
{
    Console.Error.WriteLine($"error: {error.Message}");
    return 1;
}

static int Run(QwenLoraTrainer.Options options, string data, string output)
{
    Stopwatch watch = Stopwatch.StartNew();
    InstructionRow[] questions = [.. Dataset.Read(data).Select(row => row.Instruction).OfType<InstructionRow>()];
    Console.WriteLine($"Before: {questions.Length} questions to {options.ModelPath}");
    string[] before;
    string folder = ModelFolder.FindOrDownloadAsync(options.ModelPath, progress: new DownloadLine()).GetAwaiter().GetResult();
    using (TextGenerator untrained = new(Checkpoint.Open(folder), precision: options.Precision))
    {
        before = [.. untrained.Generate(questions, options.Generation).Select(answer => answer.Text)];
    }

    ProgressLine progress = new();
    options.Callbacks = [progress];
    MLContext ml = new(seed: 42);
    ml.Log += (_, message) =>
    {
        if (message.Source.Contains("QwenLora", StringComparison.Ordinal) && message.Kind >= Microsoft.ML.Runtime.ChannelMessageKind.Info)
        {
            progress.WriteLine(message.RawMessage); // which makes room for it
        }
    };
    IDataView rows = ml.Data.LoadFromInstructionFile(data);
    QwenLoraTrainer trainer = ml.TextGeneration.Trainers.QwenLora(options);
    using QwenLoraTransformer trained = trainer.Fit(rows);

    string[] after = [.. ml.Data.CreateEnumerable<Reply>(trained.Transform(rows), reuseRowObject: false).Select(reply => reply.Answer)];
    int exact = 0;
    for (int i = 0; i < questions.Length; i++)
    {
        bool right = after[i] == questions[i].Output;
        exact += right ? 1 : 0;
        Console.WriteLine();
        Console.WriteLine($"{questions[i].Instruction}{(string.IsNullOrEmpty(questions[i].Input) ? "" : $" | {questions[i].Input}")}");
        Console.WriteLine($"  before: {OneLine(before[i])}");
        Console.WriteLine($"  after:  {OneLine(after[i])}{(right ? "" : $"   (expected: {questions[i].Output})")}");
    }

    string zip = Path.Combine(output, "model.zip");
    Directory.CreateDirectory(output);
    trained.Adapter.SaveAsPeft(Path.Combine(output, "adapter"));
    trained.MergeAndSave(Path.Combine(output, "merged"));
    trained.Save(zip, rows.Schema); // a service that watches the file sees a whole one
    Console.WriteLine();
    Console.WriteLine($"Saved {Path.Combine(output, "adapter")} (PEFT), {Path.Combine(output, "merged")} (Hugging Face checkpoint) and {zip}.");

    MLContext fresh = new();
    using PredictionEngine<Question, Reply> engine = fresh.Model.CreatePredictionEngine<Question, Reply>(fresh.Model.Load(zip, out _));
    string again = engine.Predict(new Question { Instruction = questions[0].Instruction, Input = questions[0].Input ?? "" }).Answer;
    Console.WriteLine($"From the zip: {questions[0].Instruction} -> {OneLine(again)}");

    bool done = exact == questions.Length && again == after[0];
    Console.WriteLine(
        FormattableString.Invariant($"{exact} of {questions.Length} trained questions are answered exactly; {watch.Elapsed.TotalSeconds:F0} s in all."));
    if (!done)
    {
        Console.WriteLine("Not all are learned yet: try more --epochs.");
    }

    return done ? 0 : 1;
}

static string OneLine(string text)
{
    string line = text.ReplaceLineEndings(" ");
    return line.Length <= 100 ? line : line[..100] + "…";
}
