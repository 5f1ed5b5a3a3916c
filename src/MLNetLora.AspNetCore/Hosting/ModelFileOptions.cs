using MLNetLora.TextGeneration;

namespace MLNetLora.AspNetCore;

/// <summary>A model zip that is served: what <c>ml.Model.Save</c> or <see cref="QwenLoraTransformer.Save"/> wrote.</summary>
public sealed class ModelFileOptions
{
    /// <summary>The zip. One that is put in its place while the application runs, best by a rename, is taken when it was the same for one period and its
    /// model answers; one that cannot be used is refused, and the old one answers on.</summary>
    public string Path { get; set; } = "";

    /// <summary>Where the base checkpoint is, looked at first: a folder or a hub id. Null (default) looks where it was at training, and where
    /// MLNETLORA_BASE_MODEL says.</summary>
    public string? BaseModel { get; set; }

    /// <summary>How often the file is looked at. Default 2 seconds.</summary>
    public TimeSpan WatchPeriod { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>Changes generation, precision, threads, device of the loaded model; null (default) leaves what was saved.</summary>
    public Action<QwenLoraTransformer.Options>? Change { get; set; }
}

/// <summary>A model zip that AddMLNetLoraModelFile has registered.</summary>
/// <param name="Name">Its name.</param>
internal sealed record RegisteredModelFile(string Name);
