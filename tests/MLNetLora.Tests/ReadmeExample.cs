using Microsoft.ML;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests;

/// <summary>The README's C#, compiled and run. In(…) puts a name into the test's folder; without it the lines are the README's.</summary>
internal static class ReadmeExample
{
    public static async Task Run(Func<string, string> In)
    {
        // README begin
        var ml = new MLContext(seed: 42);
        IDataView rows = ml.Data.LoadFromInstructionFile(In("company_data.json"));
        var trainer = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = In("Qwen/Qwen2.5-0.5B-Instruct"), // a folder, or a hub id, downloaded once
            Rank = 64,
            Alpha = 16,
            Dropout = 0.05f,
            TargetModules = ["q_proj", "v_proj"],
            BatchSize = 1,
            GradientAccumulationSteps = 8,
            LearningRate = 2e-4,
            NumberOfEpochs = 3,
            MaximumSequenceLength = 512,
            ProgressCallback = step => Console.WriteLine($"{step.Step}/{step.TotalSteps} loss {step.Loss:F3}"),
        });
        using var model = trainer.Fit(rows);
        model.Adapter.SaveAsPeft(In("qwen_company_lora")); // adapter_config.json + adapter_model.safetensors, PEFT loads it
        model.MergeAndSave(In("qwen_company_merged")); // a plain Hugging Face checkpoint
        model.Save(In("model.zip")); // replaces an older one only when the new one is whole
        using var loaded = ml.TextGeneration.Load(In("model.zip"));
        await foreach (var piece in loaded.GenerateAsync("How do I claim travel expenses?"))
        {
            Console.Write(piece.Text);
        }

        using var engine = ml.Model.CreatePredictionEngine<Question, Reply>(ml.Model.Load(In("model.zip"), out _)); // ML.NET's own way
        Console.WriteLine(engine.Predict(new Question { Instruction = "How do I claim travel expenses?" }).Answer);
        // README end
    }

    private sealed class Question
    {
        public string Instruction { get; set; } = "";

        public string Input { get; set; } = "";
    }

    private sealed class Reply
    {
        public string Answer { get; set; } = "";
    }
}
