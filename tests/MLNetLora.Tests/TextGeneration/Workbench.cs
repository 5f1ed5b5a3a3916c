using Microsoft.ML;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A folder with a tiny checkpoint, an MLContext with the fake backend, and rows; the folder goes with it.</summary>
internal sealed class Workbench : IDisposable
{
    public Workbench(FakeBackend? backend = null, int? seed = 7)
    {
        Backend = backend ?? new FakeBackend();
        Context = NewContext(seed);
        BaseFolder = TinyCheckpoint.Write(PathOf("base"));
    }

    public string Folder { get; } = Directory.CreateTempSubdirectory("mlnetlora-").FullName;

    public string BaseFolder { get; }

    public FakeBackend Backend { get; }

    public MLContext Context { get; }

    public IDataView Rows => Context.Data.LoadFromEnumerable<Row>([new("what", "a", "1"), new("why", "", "2"), new("who", "c", "3")]);

    public string PathOf(string name) => Path.Combine(Folder, name);

    public MLContext NewContext(int? seed = 7)
    {
        MLContext context = new(seed);
        ContextSettings.Of(context).Backend = Backend;
        return context;
    }

    public QwenLoraTrainer Trainer(Action<QwenLoraTrainer.Options>? change = null)
    {
        QwenLoraTrainer.Options options = TrainerOptions();
        change?.Invoke(options);
        return Context.TextGeneration.Trainers.QwenLora(options);
    }

    public QwenLoraTrainer.Options TrainerOptions() => new() { ModelPath = BaseFolder };

    public QwenLoraTransformer Fit(Action<QwenLoraTrainer.Options>? change = null) => Trainer(change).Fit(Rows);

    public string Save(ITransformer model, string name = "model.zip")
    {
        Context.Model.Save(model, Rows.Schema, PathOf(name));
        return PathOf(name);
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
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
