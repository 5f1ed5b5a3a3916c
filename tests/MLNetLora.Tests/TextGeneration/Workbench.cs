using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A folder with a tiny checkpoint, an MLContext, rows and models; the folder goes with it.</summary>
internal sealed class Workbench : IDisposable
{
    private readonly Lazy<TextGenerator> _generator;

    public Workbench(int? seed = 7)
    {
        Context = new MLContext(seed);
        BaseFolder = TinyCheckpoint.Write(PathOf("base"));
        _generator = new(() => new TextGenerator(Checkpoint.Open(BaseFolder), TinyCheckpoint.Adapter(BaseFolder)));
    }

    public string Folder { get; } = Directory.CreateTempSubdirectory("mlnetlora-").FullName;

    public string BaseFolder { get; }

    public MLContext Context { get; }

    public IDataView Rows => Context.Data.LoadFromEnumerable<Row>([new("what", "a", "1"), new("why", "", "2"), new("who", "c", "3")]);

    /// <summary>What <see cref="Model"/> answers to <see cref="Rows"/>.</summary>
    public string[] Answers => [Answer("what", "a"), Answer("why"), Answer("who", "c")];

    public string PathOf(string name) => Path.Combine(Folder, name);

    /// <summary>What <see cref="Model"/> answers, by a way of its own: without ML.NET, one row at a time.</summary>
    public string Answer(string instruction, string? input = null) =>
        _generator.Value.Generate([new InstructionRow(instruction, Input: input)], TrainerOptions().Generation)[0].Text;

    /// <summary>What <see cref="Model"/> answers to a conversation.</summary>
    public string Answer(Conversation conversation) => _generator.Value.Reply([conversation], TrainerOptions().Generation)[0].Text;

    public QwenLoraTrainer Trainer(Action<QwenLoraTrainer.Options>? change = null)
    {
        QwenLoraTrainer.Options options = TrainerOptions();
        change?.Invoke(options);
        return Context.TextGeneration.Trainers.QwenLora(options);
    }

    public QwenLoraTrainer.Options TrainerOptions() => new()
    {
        ModelPath = BaseFolder,
        Generation = new GenerationOptions { MaximumNewTokens = 6 },
    };

    /// <summary>A model that was trained on <see cref="Rows"/>.</summary>
    public QwenLoraTransformer Fit(Action<QwenLoraTrainer.Options>? change = null) => Trainer(change).Fit(Rows);

    /// <summary>A model with an adapter made by hand, as the trainer would return it for these options; for everything that does not look at the
    /// training.</summary>
    public QwenLoraTransformer Model(Action<QwenLoraTrainer.Options>? change = null)
    {
        QwenLoraTrainer.Options options = TrainerOptions();
        change?.Invoke(options);
        options.Validate();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(options.ModelPath));
        LoraAdapter adapter = TinyCheckpoint.Adapter(checkpoint.Folder);
        BaseModelRecord record = BaseModelRecord.Create(options.ModelPath, checkpoint);
        return new(new(adapter, record, checkpoint.Folder, options.Columns, options.Prompt, options.Generation, options.WeightPrecision), summary: null,
            Context);
    }

    public string Save(ITransformer model, string name = "model.zip")
    {
        Context.Model.Save(model, Rows.Schema, PathOf(name));
        return PathOf(name);
    }

    public void Dispose()
    {
        if (_generator.IsValueCreated)
        {
            _generator.Value.Dispose();
        }

        Directory.Delete(Folder, recursive: true);
    }
}

public sealed record Row(string Instruction, string Input, string Output);

public sealed class Question
{
    public string Instruction { get; set; } = "";

    public string? Input { get; set; }
}

public sealed class Reply
{
    public string Answer { get; set; } = "";
}
