namespace MLNetLora;

/// <summary>Base of every error that this library raises about its input: the message names what was wrong, where, and what to do.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public class MLNetLoraException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>A checkpoint folder cannot be used: a file is missing, truncated or lies about its contents, the architecture is unknown, a tensor has
/// the wrong shape or type.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class CheckpointException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>A model cannot be downloaded: it does not exist, is gated or private, the network or the server fails, what came is damaged, or the disk is
/// full.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class HubException(string message, Exception? inner = null) : MLNetLoraException(message, inner)
{
    /// <summary>What the server answered; null where it did not come to that, or was not the reason.</summary>
    public System.Net.HttpStatusCode? StatusCode { get; init; }
}

/// <summary>An adapter cannot be used: a target matches nothing, a tensor is missing or has the wrong shape, the file kind is refused.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class AdapterException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>Training data cannot be used: the message names file, line or row, and column.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class DatasetException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>A tokenizer's files cannot be used.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class TokenizerException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>A chat template cannot be parsed or rendered within its limits.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class TemplateException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>An option has a value that makes no sense; the message names the option, its value and the allowed ones.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class OptionException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>A constraint on answers cannot be held to: a JSON schema or a regular expression is wrong, or says what the library does not know how to hold, or
/// nothing satisfies it.</summary>
/// <param name="message">What was wrong, where, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class ConstraintException(string message, Exception? inner = null) : MLNetLoraException(message, inner)
{
    /// <summary>Where in the schema it is, as a JSON pointer (#/properties/age/minimum); null where it is in no schema.</summary>
    public string? Pointer { get; init; }
}

/// <summary>A prompt cannot be answered: it leaves no room for an answer in the model's context, asks nothing, or has tokens that the model has not.</summary>
/// <param name="message">Which row, what is wrong with it, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class PromptException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>Memory outside the managed heap ran out, in an allocation of this library or inside ONNX Runtime.</summary>
/// <param name="message">What it was wanted for, how much where that is known, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class NativeMemoryException(string message, Exception? inner = null) : MLNetLoraException(message, inner)
{
    /// <summary>What it was needed for, without what to do about it; null where the message is no more than that.</summary>
    internal string? What { get; init; }
}

/// <summary>A device cannot be used: a package, a driver or a library is missing, or a chip that the runtime has no code for.</summary>
/// <param name="message">What is missing, and what to do.</param>
/// <param name="inner">The cause, where another exception was the cause.</param>
public sealed class DeviceException(string message, Exception? inner = null) : MLNetLoraException(message, inner);

/// <summary>Something would be lost or go wrong in a training, and <see cref="Training.TrainingOptions.WarningsAsErrors"/> asks to be stopped by it.
/// Nothing was trained.</summary>
/// <param name="warnings">A sentence each.</param>
public sealed class TrainingWarningException(IReadOnlyList<string> warnings)
    : MLNetLoraException($"{string.Join(" ", warnings)} (WarningsAsErrors is true.)")
{
    /// <summary>The warnings, a sentence each; at least one.</summary>
    public IReadOnlyList<string> Warnings { get; } = warnings;
}
