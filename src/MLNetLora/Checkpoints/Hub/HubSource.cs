namespace MLNetLora.Checkpoints;

/// <summary>A site that hosts models.</summary>
public enum HubSource
{
    /// <summary>huggingface.co, or a mirror with its API.</summary>
    HuggingFace,

    /// <summary>modelscope.cn. Branches are named otherwise there: the main one is master.</summary>
    ModelScope,
}
